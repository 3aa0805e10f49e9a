// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/api/agent_api.h"
#include "agent/core/condition_counts.h"
#include "agent/core/core.h"
#include "agent/record/store.h"

namespace sma::core {

class AdminCases;
class AgentCases;
class Reconciler;
class VolumeWatch;

/// The agent without its external interfaces: the record, the device types, the use cases and the
/// reconciliation of record and target. Does not depend on gRPC or sockets.
class AgentCore {
 public:
  /// Reads the record from `store`. `target` must outlive the core. `serving_changed` is called, by
  /// threads of the core but never by two at once, when the agent starts or stops being able to
  /// serve calls: it can if the target answers and has been compared with the record. `engine`
  /// encrypts volumes (null: encryption is not available); `sealing_key` seals their keys in the
  /// record. Returns the errors of Store::Load, or an error if two managers serve the same
  /// protocol.
  static absl::StatusOr<std::unique_ptr<AgentCore>> Open(
      Options options, jsonrpc::Caller& target, std::unique_ptr<record::Store> store,
      std::vector<std::unique_ptr<DeviceManager>> managers,
      std::function<void(bool serving)> serving_changed,
      std::unique_ptr<CryptoEngine> engine = nullptr,
      std::optional<base::Secret> sealing_key = std::nullopt);

  /// Calls Stop(). No call may be in progress.
  ~AgentCore();

  /// Starts comparing the record with the target, immediately if the target is already connected.
  void Start();

  /// Ends the background work; calls may continue. Idempotent.
  void Stop();

  // Callbacks for the connection to the target (jsonrpc::ClientOptions); they do not block.
  void OnConnect(uint64_t generation);
  void OnDisconnect(uint64_t generation, const absl::Status& reason);
  void OnConnectFailed(const absl::Status& reason);

  api::Agent& agent();
  api::Admin& admin();
  /// Returns the last known number of paths to the remote subsystem of a volume, and how many of
  /// them are up; nullopt if unknown, or if the volume has none.
  std::optional<volume::PathCount> PathsOf(const base::Uuid& volume) const;
  /// Counts the devices and volumes that have a problem. Does not block.
  ConditionCounts CountConditions() const;
  const record::Record& record() const { return *core_->record; }

 private:
  AgentCore(std::unique_ptr<Core> core, std::function<void(bool)> serving_changed);

  // The parts of the core, in the order of their dependencies.
  const std::unique_ptr<Core> core_;
  std::unique_ptr<Reconciler> reconciler_;
  std::unique_ptr<AgentCases> agent_cases_;
  std::unique_ptr<AdminCases> admin_cases_;
  std::unique_ptr<VolumeWatch> volume_watch_;
};

}  // namespace sma::core
