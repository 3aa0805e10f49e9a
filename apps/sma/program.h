// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/config/config.h"
#include "agent/core/agent_core.h"
#include "agent/embedded/embedded_target.h"
#include "agent/metrics/metrics.h"
#include "agent/plugin/catalog.h"
#include "agent/plugin/loader.h"
#include "agent/record/store.h"
#include "agent/service/grpc_server.h"
#include "base/mutex.h"
#include "base/secret.h"
#include "jsonrpc/caller.h"
#include "jsonrpc/client.h"

namespace sma::apps {

/// Hooks for tests, which replace parts of the agent or wrap its store and connections. Null if not
/// used.
struct Decorators {
  std::function<void(core::Options&)> options;
  std::function<std::unique_ptr<record::Store>(std::unique_ptr<record::Store>)> store;
  /// The client outlives the objects created from it.
  std::function<std::unique_ptr<jsonrpc::Caller>(jsonrpc::Caller& client)> target;
};

/// The agent as a program: creates its parts from the configuration, in the order of their
/// dependencies, runs until SIGTERM or SIGINT, and destroys them in the opposite order.
class AgentProgram {
 public:
  explicit AgentProgram(config::Config config, Decorators decorators = {})
      : config_(std::move(config)), decorators_(std::move(decorators)) {}

  /// Runs the agent; returns the program's exit status. SIGTERM and SIGINT must be blocked in every
  /// thread.
  int Run();

 private:
  absl::Status Start();
  absl::Status ProtectKeys();
  absl::Status StartTarget();
  void StartClient();
  /// Loads the plugins, and creates the device types and the crypto engine that the configuration
  /// enables.
  absl::StatusOr<std::vector<std::unique_ptr<DeviceManager>>> MakeDeviceTypes(
      jsonrpc::Caller& target);
  absl::Status OpenCore(std::unique_ptr<record::Store> store);
  absl::Status ListenForMetrics();
  absl::Status Listen();
  int StopWith(int exit_status);
  void Stop();
  /// Stops the embedded target if the configuration says so. Idempotent; thread-safe.
  void StopTarget();

  void TellServing(bool serving);
  metrics::AgentNumbers CollectNumbers();

  const config::Config config_;
  const Decorators decorators_;
  std::optional<base::Secret> sealing_key_;  // until the core owns it
  base::Mutex mutex_;
  /// Receives the client's callbacks. Null until all parts exist.
  core::AgentCore* connected_core_ SMA_GUARDED_BY(mutex_) = nullptr;

  base::Mutex target_mutex_;  // held while target_ is destroyed

  // Each part uses only those declared above it.
  std::unique_ptr<embedded::EmbeddedTarget> target_;
  std::unique_ptr<jsonrpc::Client> client_;
  std::unique_ptr<jsonrpc::Caller> decorated_client_;  // null: client_ is used directly
  std::unique_ptr<plugin::Catalog> catalog_;
  std::unique_ptr<plugin::Loader> loader_;
  std::unique_ptr<core::AgentCore> core_;
  std::unique_ptr<metrics::Metrics> metrics_;
  std::unique_ptr<service::GrpcServer> server_;
};

}  // namespace sma::apps
