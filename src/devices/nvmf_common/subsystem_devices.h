// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "agent/spdk/call.h"
#include "agent/spdk/nvmf.h"
#include "devices/nvmf_common/comparison.h"
#include "devices/nvmf_common/known_subsystems.h"
#include "devices/nvmf_common/listing.h"
#include "devices/nvmf_common/namespaces.h"
#include "devices/nvmf_common/restore.h"
#include "devices/nvmf_common/subsystem_spec.h"
#include "jsonrpc/caller.h"
#include "sma/device_manager.h"

namespace sma::nvmf_common {

/// Devices that are NVMe-oF subsystems, for device managers: volumes are namespaces, and
/// `attachment` is an Attachment as text. Each method has the contract of the DeviceManager method
/// with the same name.
///
/// A subsystem belongs to a device if it has the serial number of the device's spec. A subsystem
/// that another client created with the same NQN is never changed or deleted; calls about its
/// device return ALREADY_EXISTS, or OK if the device is to be deleted.
/// A namespace belongs to a volume if it has the volume's UUID and exports the volume's bdev.
/// Thread-safe.
class SubsystemDevices {
 public:
  /// `target` must outlive this object. `transport` is the transport of the devices' listeners, for
  /// example "tcp". If the target does not have it, it is created with the additional parameters in
  /// `transport_options`, which may be null.
  SubsystemDevices(jsonrpc::Caller& target, std::string transport,
                   jsonrpc::Json transport_options = {})
      : target_(target),
        transport_(std::move(transport)),
        transport_options_(std::move(transport_options)) {}

  absl::Status Prepare(const base::Context& context);
  absl::StatusOr<std::optional<ExistingDevice>> FindExisting(const base::Context& context,
                                                             const SubsystemSpec& spec);
  OutcomeOr<std::string> Create(const base::Context& context, const SubsystemSpec& spec,
                                const DeviceVolume* volume);
  Outcome UndoCreate(const base::Context& context, const SubsystemSpec& spec,
                     const DeviceVolume* volume);
  Outcome Delete(const base::Context& context, const SubsystemSpec& spec);
  OutcomeOr<std::string> Attach(const base::Context& context, const SubsystemSpec& spec,
                                const DeviceVolume& volume) {
    return namespaces_.Attach(context, spec, volume);
  }
  Outcome Detach(const base::Context& context, const SubsystemSpec& spec,
                 const DeviceVolume& volume) {
    return namespaces_.Detach(context, spec, volume);
  }
  absl::StatusOr<std::unique_ptr<SubsystemListing>> List(const base::Context& context) {
    return ListSubsystems(target_, context, known_);
  }
  absl::StatusOr<std::unique_ptr<SubsystemListing>> ListOf(const base::Context& context,
                                                           std::span<const std::string> nqns) {
    return ListSubsystems(target_, context, known_, nqns);
  }
  /// `request.listing`, if not null, is a SubsystemListing.
  RestoreResult Restore(const base::Context& context, const SubsystemSpec& spec,
                        const RestoreRequest& request) {
    return RestoreSubsystem(target_, context, known_, spec, request);
  }
  /// Sets the limits of `volume`. Returns UNIMPLEMENTED if `volume` is null, because a device
  /// itself has no limits.
  Outcome SetQos(const base::Context& context, const DeviceVolume* volume, const QosLimit& maximum);
  static GetQosCapabilitiesResponse QosCapabilities();

 private:
  OutcomeOr<std::string> FinishCreate(const base::Context& context, const SubsystemSpec& spec,
                                      const DeviceVolume* volume,
                                      std::span<const jsonrpc::Request> requests,
                                      std::span<const absl::StatusOr<jsonrpc::Json>> results);
  Outcome UndoRefused(const std::string& nqn, std::span<const jsonrpc::Request> requests,
                      std::span<const absl::StatusOr<jsonrpc::Json>> results);
  Outcome UndoCreated(Outcome why, const std::string& nqn);
  Outcome RemoveIntended(const base::Context& context, const SubsystemSpec& spec,
                         const DeviceVolume* volume, const spdk::Subsystem& actual);

  jsonrpc::Caller& target_;
  const std::string transport_;
  const jsonrpc::Json transport_options_;
  Namespaces namespaces_{target_};
  KnownSubsystems known_;
  // Generation of the connection on which the transport was created.
  std::atomic<uint64_t> prepared_generation_ = 0;
};

/// Returns the namespaces of a subsystem on the target as volumes identified by their UUIDs.
/// `bdev_name` is the exported bdev, which may differ from the volume's.
std::vector<DeviceVolume> VolumesOf(const spdk::Subsystem& subsystem);

}  // namespace sma::nvmf_common
