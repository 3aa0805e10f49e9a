#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "agent/spdk/bdev.h"
#include "agent/spdk/call.h"
#include "agent/spdk/nvmf.h"
#include "devices/nvmf_common/comparison.h"
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
/// `attachment` is an Attachment as text. Each method does what the one of DeviceManager does.
///
/// A subsystem belongs to a device if it has the serial number of the device's spec. One that
/// somebody else created under the same NQN is never changed or deleted; calls about its device end
/// with ALREADY_EXISTS, or, where the device is to be removed, with OK.
/// A namespace is a volume's if it has the volume's UUID and exports the volume's bdev.
/// Thread-safe.
class SubsystemDevices {
 public:
  /// `target` outlives this. `transport`: the one of the devices' listeners, "tcp" say.
  SubsystemDevices(jsonrpc::Caller& target, std::string transport)
      : target_(target), transport_(std::move(transport)) {}

  absl::Status Prepare(const base::Context& context);
  absl::StatusOr<std::optional<ExistingDevice>> FindExisting(const base::Context& context,
                                                             const SubsystemSpec& spec);
  OutcomeOr<std::string> Create(const base::Context& context, const SubsystemSpec& spec,
                                const DeviceVolume* volume);
  Outcome UndoCreate(const base::Context& context, const SubsystemSpec& spec,
                     const DeviceVolume* volume);
  Outcome Delete(const base::Context& context, const SubsystemSpec& spec);
  OutcomeOr<std::string> Attach(const base::Context& context, const SubsystemSpec& spec,
                                const DeviceVolume& volume);
  Outcome Detach(const base::Context& context, const SubsystemSpec& spec,
                 const DeviceVolume& volume);
  absl::StatusOr<std::unique_ptr<SubsystemListing>> List(const base::Context& context);
  /// `request.listing`, if any, is a SubsystemListing.
  RestoreResult Restore(const base::Context& context, const SubsystemSpec& spec,
                        const RestoreRequest& request);
  /// Of a volume; null: of a device, which has no limits.
  Outcome SetQos(const base::Context& context, const DeviceVolume* volume, const QosLimit& maximum);
  static GetQosCapabilitiesResponse QosCapabilities();

 private:
  /// A subsystem and a bdev, each as far as the target has it.
  struct Found {
    std::optional<spdk::Subsystem> subsystem;
    std::optional<spdk::Bdev> bdev;
  };

  static absl::StatusOr<Found> ParseFound(const absl::StatusOr<jsonrpc::Json>& subsystem,
                                          const absl::StatusOr<jsonrpc::Json>& bdev);
  absl::StatusOr<Found> Query(const base::Context& context, const std::string& nqn,
                              const std::string& bdev_name);

  // create.cc
  OutcomeOr<std::string> FinishCreate(const base::Context& context, const SubsystemSpec& spec,
                                      const DeviceVolume* volume,
                                      std::span<const jsonrpc::Request> requests,
                                      std::span<const absl::StatusOr<jsonrpc::Json>> results);
  Outcome UndoRefused(const std::string& nqn, std::span<const jsonrpc::Request> requests,
                      std::span<const absl::StatusOr<jsonrpc::Json>> results);
  Outcome UndoCreated(Outcome why, const std::string& nqn);
  Outcome RemoveIntended(const base::Context& context, const SubsystemSpec& spec,
                         const DeviceVolume* volume, const spdk::Subsystem& actual);

  // attach.cc
  OutcomeOr<std::string> FinishAttach(const base::Context& context, const SubsystemSpec& spec,
                                      const DeviceVolume& volume,
                                      const absl::StatusOr<Found>& found,
                                      const absl::StatusOr<jsonrpc::Json>& answer);
  Outcome UndoAttach(Outcome why, const SubsystemSpec& spec, const DeviceVolume& volume,
                     const absl::StatusOr<jsonrpc::Json>& answer);
  OutcomeOr<std::string> AttachRefused(const base::Context& context, const SubsystemSpec& spec,
                                       const DeviceVolume& volume,
                                       const absl::StatusOr<Found>& found, absl::Status refusal);

  // restore.cc
  spdk::Results SendMissing(const base::Context& context, const SubsystemSpec& spec,
                            const RestoreRequest& request, const BdevNames& bdev_names,
                            const spdk::Subsystem* actual);

  jsonrpc::Caller& target_;
  const std::string transport_;
  KnownSubsystems known_;
  std::atomic<uint64_t> prepared_generation_ = 0;  // of the connection that has the transport
};

/// The namespaces of a subsystem that was found on the target, each as the volume that its UUID
/// names: `bdev_name` is the bdev that it exports, which may be another one than the volume's.
std::vector<DeviceVolume> VolumesOf(const spdk::Subsystem& subsystem);

/// ALREADY_EXISTS: the subsystem with this NQN is somebody else's.
absl::Status NotOwned(const std::string& nqn);

}  // namespace sma::nvmf_common
