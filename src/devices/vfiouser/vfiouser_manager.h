#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/qmp/machines.h"
#include "devices/nvmf_common/subsystem_devices.h"
#include "jsonrpc/caller.h"
#include "sma/device_manager.h"

namespace sma::vfiouser {

struct Options {
  qmp::Buses buses{{}, false};
  /// Each device has a folder with a socket in here, for the target and QEMU.
  std::string socket_folder = "/var/tmp";
  /// How long a call waits for the guest to release a device.
  std::chrono::nanoseconds unplug_wait = std::chrono::seconds(8);
  /// A machine that cannot be reached for so long counts as gone when a device is deleted.
  std::chrono::nanoseconds gone_after = std::chrono::seconds(30);
};

/// Devices that are NVMe controllers of a virtual machine: a subsystem of the target with a
/// VFIOUSER listener in a folder of its own, plugged into the machine where there is a QEMU to ask.
/// Volumes are its namespaces and `attachment` is the NSID in decimal.
class VfioUserManager : public DeviceManager {
 public:
  /// `target` outlives the manager.
  VfioUserManager(jsonrpc::Caller& target, Options options)
      : target_(target), options_(std::move(options)), subsystems_(target, "vfiouser") {}

  std::string_view name() const override { return "vfiouser"; }
  std::string_view protocol() const override { return "nvme"; }
  DeviceType type() const override { return DEVICE_TYPE_NVME; }

  absl::StatusOr<DeviceSpec> Describe(const CreateDeviceRequest& request) const override;
  bool OwnsHandle(std::string_view handle) const override;
  std::string NeighbourOf(const DeviceSpec& device) const override;
  absl::Status Prepare(const base::Context& context) override;
  absl::StatusOr<std::optional<ExistingDevice>> FindExisting(const base::Context& context,
                                                             const DeviceSpec& device) override;
  OutcomeOr<CreatedDevice> CreateDevice(const base::Context& context, const DeviceSpec& device,
                                        const DeviceVolume* volume) override;
  Outcome UndoCreate(const base::Context& context, const DeviceSpec& device,
                     const DeviceVolume* volume) override;
  Outcome DeleteDevice(const base::Context& context, const DeviceSpec& device,
                       std::span<const DeviceVolume> volumes) override;
  OutcomeOr<std::string> AttachVolume(const base::Context& context, const DeviceSpec& device,
                                      const DeviceVolume& volume) override;
  DeviceTraits traits() const override { return {.takes_plans = true}; }
  Outcome DetachVolume(const base::Context& context, const DeviceSpec& device,
                       const DeviceVolume& volume) override;
  absl::StatusOr<std::unique_ptr<DeviceListing>> List(const base::Context& context) override;
  RestoreResult Restore(const base::Context& context, const RestoreRequest& request) override;
  Outcome SetQos(const base::Context& context, const DeviceSpec& device, const DeviceVolume* volume,
                 const QosLimit& maximum) override;
  absl::StatusOr<GetQosCapabilitiesResponse> GetQosCapabilities(
      const base::Context& context) const override;
  std::vector<AdoptionCandidate> ListAdoptionCandidates(
      const DeviceListing& listing, std::span<const std::string> known) const override;

 private:
  std::string FolderOf(const DeviceSpec& device) const;
  nvmf_common::SubsystemSpec SubsystemOf(const DeviceSpec& device) const;
  absl::StatusOr<qmp::Place> PlaceOf(const DeviceSpec& device) const;

  // vfiouser_manager.cc
  Outcome Undo(Outcome why, const DeviceSpec& device, bool made_folder, bool plugged);
  Outcome Remove(const base::Context& context, const DeviceSpec& device);
  absl::Status RemoveFolderOf(const base::Context& context, const DeviceSpec& device);

  // plug.cc: the device in its machine.
  absl::StatusOr<bool> IsPlugged(const base::Context& context, const DeviceSpec& device) const;
  Outcome Plug(const base::Context& context, const DeviceSpec& device);
  Outcome Release(const base::Context& context, const DeviceSpec& device);
  static absl::Status Unplug(const base::Context& context, qmp::Client& machine,
                             const std::string& name);

  // restore.cc
  absl::StatusOr<bool> IsListening(const base::Context& context, const RestoreRequest& request);
  absl::Status RestorePlug(const base::Context& context, const RestoreRequest& request,
                           bool was_listening, RestoreResult& result);

  jsonrpc::Caller& target_;
  const Options options_;
  nvmf_common::SubsystemDevices subsystems_;
};

}  // namespace sma::vfiouser
