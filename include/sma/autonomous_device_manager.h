#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "sma/device_manager.h"

namespace sma {

/// A type of device that names its devices when it makes them and knows itself which there are, as
/// plugins written for SPDK's own agent do. The agent passes requests on to it and keeps in its
/// record which handle is whose; what it can do for other types (find a device that is there
/// already, undo one that is half made) it leaves to the type.
///
/// As for DeviceManager, but: MakeDevice, AttachVolume, DetachVolume and DeleteDevice are called
/// again for what is there (or gone) already, and are successes then. Restore repeats MakeDevice
/// and AttachVolume after a new connection to the target.
class AutonomousDeviceManager : public DeviceManager {
 public:
  /// DeviceVolume::attachment of a volume that was given to MakeDevice.
  static constexpr std::string_view kWithDevice = "with the device";

  AutonomousDeviceManager* autonomous() final { return this; }

  /// Makes the device that `request` asks for, or finds it made, and gives its handle. `volume` is
  /// that of the request; null: there is none. Never called twice at once for one device: requests
  /// ask for one where the NQN of the subsystem, or the physical and virtual id, are the same.
  virtual absl::StatusOr<std::string> MakeDevice(const base::Context& context,
                                                 const CreateDeviceRequest& request,
                                                 const DeviceVolume* volume) = 0;

  virtual absl::StatusOr<GetQosCapabilitiesResponse> FindQosCapabilities(
      const base::Context& context, const GetQosCapabilitiesRequest& request) = 0;

  /// Whether a device may be deleted with volumes attached to it.
  virtual bool allow_delete_volumes() const = 0;

  // Never asked of such a type.
  absl::StatusOr<DeviceSpec> Describe(const CreateDeviceRequest& /*request*/) const final {
    return NotSupported("Describe");
  }
  absl::StatusOr<std::optional<ExistingDevice>> FindExisting(const base::Context& /*context*/,
                                                             const DeviceSpec& /*device*/) final {
    return NotSupported("FindExisting");
  }
  absl::StatusOr<std::string> CreateDevice(const base::Context& /*context*/,
                                           const DeviceSpec& /*device*/,
                                           const DeviceVolume* /*volume*/) final {
    return NotSupported("CreateDevice");
  }

  /// A device that was not answered with success is the plugin's own matter.
  absl::Status UndoCreate(const base::Context& /*context*/, const DeviceSpec& /*device*/,
                          const DeviceVolume* /*volume*/) final {
    return absl::OkStatus();
  }

  absl::StatusOr<std::unique_ptr<DeviceListing>> List(const base::Context& /*context*/) override {
    return std::make_unique<DeviceListing>();
  }
};

}  // namespace sma
