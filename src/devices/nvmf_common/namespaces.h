// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/spdk/bdev.h"
#include "agent/spdk/nvmf.h"
#include "base/context.h"
#include "devices/nvmf_common/subsystem_spec.h"
#include "jsonrpc/caller.h"
#include "sma/device_manager.h"
#include "sma/outcome.h"

namespace sma::nvmf_common {

/// Attaches volumes to subsystems as namespaces, and detaches them. Blocks while it calls the
/// target. Thread-safe.
class Namespaces {
 public:
  /// `target` must outlive this object.
  explicit Namespaces(jsonrpc::Caller& target) : target_(target) {}

  /// See DeviceManager::AttachVolume; returns an Attachment as text.
  OutcomeOr<std::string> Attach(const base::Context& context, const SubsystemSpec& spec,
                                const DeviceVolume& volume);
  /// See DeviceManager::DetachVolume.
  Outcome Detach(const base::Context& context, const SubsystemSpec& spec,
                 const DeviceVolume& volume);
  /// Returns why the target refused to add the volume's namespace with `refusal`. Attaches the
  /// volume after all if its bdev appears in time.
  OutcomeOr<std::string> AfterRefusal(const base::Context& context, const SubsystemSpec& spec,
                                      const DeviceVolume& volume, absl::Status refusal) {
    return AttachRefused(context, spec, volume, Query(context, spec.nqn, volume.bdev_name),
                         std::move(refusal));
  }

 private:
  /// A subsystem and a bdev; nullopt if it does not exist on the target.
  struct Found {
    std::optional<spdk::Subsystem> subsystem;
    std::optional<spdk::Bdev> bdev;
  };

  static absl::StatusOr<Found> ParseFound(const absl::StatusOr<jsonrpc::Json>& subsystem,
                                          const absl::StatusOr<jsonrpc::Json>& bdev);
  absl::StatusOr<Found> Query(const base::Context& context, const std::string& nqn,
                              const std::string& bdev_name);
  OutcomeOr<std::string> FinishAttach(const base::Context& context, const SubsystemSpec& spec,
                                      const DeviceVolume& volume,
                                      const absl::StatusOr<Found>& found,
                                      const absl::StatusOr<jsonrpc::Json>& answer);
  Outcome UndoAttach(Outcome why, const SubsystemSpec& spec, const DeviceVolume& volume,
                     const absl::StatusOr<jsonrpc::Json>& answer);
  OutcomeOr<std::string> AttachRefused(const base::Context& context, const SubsystemSpec& spec,
                                       const DeviceVolume& volume,
                                       const absl::StatusOr<Found>& found, absl::Status refusal);

  jsonrpc::Caller& target_;
};

/// Returns an ALREADY_EXISTS error that says that the subsystem with this NQN belongs to another
/// client.
absl::Status NotOwned(const std::string& nqn);

}  // namespace sma::nvmf_common
