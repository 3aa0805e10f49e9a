#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/core/core.h"
#include "agent/record/store.h"
#include "agent/service/agent_api.h"

namespace sma::core {

class AdminCases;
class AgentCases;
class Reconciler;
class VolumeWatch;

/// The agent without its edges: the record, the device types, the use cases and the comparison of
/// the record with the target. It knows neither gRPC nor sockets.
class AgentCore {
 public:
  /// Reads the record from `store`. `target` outlives the core. `serving_changed` is called from
  /// threads of the core, never two at once, when it changes whether calls can be served: the
  /// target answers, and the record was compared with it. `engine` encrypts volumes, null: they
  /// cannot be; `sealing_key` seals their keys in the record. Errors: as Store::Load, or two
  /// managers for one protocol.
  static absl::StatusOr<std::unique_ptr<AgentCore>> Open(
      Options options, jsonrpc::Caller& target, std::unique_ptr<record::Store> store,
      std::vector<std::unique_ptr<DeviceManager>> managers,
      std::function<void(bool serving)> serving_changed,
      std::unique_ptr<CryptoEngine> engine = nullptr,
      std::optional<base::Secret> sealing_key = std::nullopt);

  /// Stop(). No call may be in progress.
  ~AgentCore();

  /// Begins to compare the record with the target, at once when it is connected already.
  void Start();

  /// Ends the work in the background; calls may go on. Again: nothing.
  void Stop();

  // What the connection to the target tells (jsonrpc::ClientOptions); they do not block.
  void OnConnect(uint64_t generation);
  void OnDisconnect(uint64_t generation, const absl::Status& reason);

  service::Agent& agent();
  service::Admin& admin();
  /// Paths to the remote subsystem of a volume that are up, of how many, as was last seen; nullopt:
  /// unknown, or it has none.
  std::optional<volume::PathCount> PathsOf(const base::Uuid& volume) const;
  const record::Record& record() const { return *core_->record; }

 private:
  AgentCore(std::unique_ptr<Core> core, std::function<void(bool)> serving_changed);

  // In the order in which they use each other.
  const std::unique_ptr<Core> core_;
  std::unique_ptr<Reconciler> reconciler_;
  std::unique_ptr<AgentCases> agent_cases_;
  std::unique_ptr<AdminCases> admin_cases_;
  std::unique_ptr<VolumeWatch> volume_watch_;
};

}  // namespace sma::core
