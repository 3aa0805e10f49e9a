#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "agent/spdk/call.h"
#include "agent/spdk/nvmf.h"
#include "devices/nvmf_common/known_subsystems.h"
#include "devices/nvmf_common/subsystem_spec.h"
#include "jsonrpc/caller.h"
#include "sma/device_manager.h"

namespace sma::nvmf_common {

/// The subsystems that were on the target at one time.
class SubsystemListing : public DeviceListing {
 public:
  explicit SubsystemListing(std::vector<spdk::Subsystem> subsystems) {
    for (spdk::Subsystem& subsystem : subsystems) {
      std::string nqn = subsystem.nqn;
      subsystems_.emplace(std::move(nqn), std::move(subsystem));
    }
  }

  /// Null: there was none of this name.
  const spdk::Subsystem* Find(const std::string& nqn) const {
    auto found = subsystems_.find(nqn);
    return found == subsystems_.end() ? nullptr : &found->second;
  }
  const std::map<std::string, spdk::Subsystem>& subsystems() const { return subsystems_; }

 private:
  std::map<std::string, spdk::Subsystem> subsystems_;
};

/// Devices that are NVMe-oF subsystems, for device managers: volumes are their namespaces and
/// `attachment` is the NSID in decimal. Each method does what the one of DeviceManager does.
/// Thread-safe.
class SubsystemDevices {
 public:
  /// `target` outlives this. `transport`: the one of the devices' listeners, "tcp" say.
  SubsystemDevices(jsonrpc::Caller& target, std::string transport)
      : target_(target), transport_(std::move(transport)) {}

  absl::Status Prepare(const base::Context& context);
  absl::StatusOr<std::optional<ExistingDevice>> FindExisting(const base::Context& context,
                                                             const SubsystemSpec& spec);
  /// Returns the attachment of `volume`.
  OutcomeOr<std::string> Create(const base::Context& context, const SubsystemSpec& spec,
                                const DeviceVolume* volume);
  Outcome UndoCreate(const base::Context& context, const SubsystemSpec& spec,
                     const DeviceVolume* volume);
  Outcome Delete(const base::Context& context, const std::string& nqn);
  OutcomeOr<std::string> Attach(const base::Context& context, const std::string& nqn,
                                const DeviceVolume& volume);
  Outcome Detach(const base::Context& context, const std::string& nqn, const DeviceVolume& volume);
  absl::StatusOr<std::unique_ptr<SubsystemListing>> List(const base::Context& context);
  /// `request.listing`, if any, is a SubsystemListing.
  RestoreResult Restore(const base::Context& context, const SubsystemSpec& spec,
                        const RestoreRequest& request);
  /// Of a volume; null: of a device, which has no limits.
  Outcome SetQos(const base::Context& context, const DeviceVolume* volume, const QosLimit& maximum);
  static GetQosCapabilitiesResponse QosCapabilities();

 private:
  // create.cc
  OutcomeOr<std::string> FinishCreate(const base::Context& context, const std::string& nqn,
                                      const DeviceVolume* volume,
                                      std::span<const jsonrpc::Request> requests,
                                      std::span<const absl::StatusOr<jsonrpc::Json>> results);
  Outcome UndoRefused(const std::string& nqn, std::span<const jsonrpc::Request> requests,
                      std::span<const absl::StatusOr<jsonrpc::Json>> results);
  Outcome UndoCreated(Outcome why, const std::string& nqn);

  // attach.cc
  OutcomeOr<std::string> AttachPlanned(const base::Context& context, const std::string& nqn,
                                       const DeviceVolume& volume);
  OutcomeOr<std::string> FinishAttach(const base::Context& context, const std::string& nqn,
                                      const DeviceVolume& volume,
                                      const absl::StatusOr<jsonrpc::Json>& answer);
  OutcomeOr<std::string> AttachRefused(const base::Context& context, const std::string& nqn,
                                       const DeviceVolume& volume, absl::Status refusal);
  Outcome RemoveFound(const base::Context& context, const std::string& nqn, const base::Uuid& id);
  void PutBack(const std::string& nqn, const spdk::Namespace& ns);

  // restore.cc
  spdk::Results SendMissing(const base::Context& context, const SubsystemSpec& spec,
                            const RestoreRequest& request, const spdk::Subsystem* actual);

  jsonrpc::Caller& target_;
  const std::string transport_;
  KnownSubsystems known_;
  std::atomic<uint64_t> prepared_generation_ = 0;  // of the connection that has the transport
};

/// The volumes of a device that was found on the target.
std::vector<DeviceVolume> VolumesOf(const spdk::Subsystem& subsystem);

}  // namespace sma::nvmf_common
