#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/context.h"
#include "base/uuid.h"
#include "sma.pb.h"
#include "sma/bdev_plan.h"
#include "sma/outcome.h"

namespace sma {

/// A device as the agent keeps it.
struct DeviceSpec {
  std::string handle;          // what clients call it
  CreateDeviceRequest params;  // only `params` is set, in the form that Describe gives it
  /// What tells the device's object on the target from another one of the same name: text that the
  /// device manager puts on it (a subsystem's serial number, say), chosen by Describe for a new
  /// device, kept by the agent for the device's life. Empty: the type has none, or the device was
  /// recorded by an agent that kept none.
  std::string mark{};
};

/// A volume as a device manager sees it.
struct DeviceVolume {
  base::Uuid id;
  std::string bdev_name;   // name or alias of the bdev to export
  std::string attachment;  // what the manager answered when it attached it; empty: not known
  std::chrono::nanoseconds wait{0};  // how long the bdev may take to appear
  VolumeParameters params{};         // as asked for, without keys and secrets; may be empty
  BdevPlan* plan = nullptr;          // what makes the bdev; null: it is made, or appears by itself
};

/// Devices of one type that are on the target, as they were at one time. Made by
/// DeviceManager::List and read only by the manager that made it.
class DeviceListing {
 public:
  virtual ~DeviceListing() = default;
};

/// What a device has to be like again; for DeviceManager::Restore.
struct RestoreRequest {
  const DeviceSpec& device;
  std::span<const DeviceVolume> volumes;
  /// What is on the target; null: the manager looks at this device itself.
  const DeviceListing* listing = nullptr;
  /// False: differences are told, nothing is changed.
  bool repair = true;
  /// False: hosts are not let in to a device made again while volumes of it are missing, because
  /// they would take these for removed.
  bool expose_incomplete = true;
  /// False: `volumes` are not all that the device has, so that a device that is missing as a whole
  /// is not created (RestoreResult::is_device_missing).
  bool recreate = true;
};

struct RestoredVolume {
  /// What to keep as DeviceVolume::attachment, or why the volume is not attached.
  absl::StatusOr<std::string> attachment = std::string();
  /// It was not attached and now is.
  bool attached_again = false;
};

struct RestoreResult {
  /// OK when the device, its volumes aside, is as it should be.
  absl::Status status;
  /// The device was missing as a whole, and was not to be created.
  bool is_device_missing = false;
  /// One for each volume of the request, in its order.
  std::vector<RestoredVolume> volumes;
  /// What was not as it should be, in words; empty when nothing.
  std::vector<std::string> differences;
  /// What to keep as DeviceSpec::mark of a device whose mark was not known; empty: nothing to keep.
  std::string mark{};
};

/// What CreateDevice returns.
struct CreatedDevice {
  /// What clients call the device: DeviceSpec::handle, unless the type names its devices itself.
  std::string handle;
  std::string attachment;  // to keep as DeviceVolume::attachment; empty without a volume
};

/// How a device type differs from others, where the agent has to know. Fixed for its lifetime.
struct DeviceTraits {
  /// CreateDevice needs a volume, which then belongs to the device for as long as it lives.
  bool needs_volume = false;

  /// CreateDevice and AttachVolume carry out DeviceVolume::plan, which otherwise is never set: they
  /// send its requests in front of their own, and when CheckResults fails undo what they did, the
  /// plan aside, and fail with that outcome.
  bool takes_plans = false;

  /// The type names its devices when it creates them and keeps a list of its own, as plugins
  /// written for SPDK's own agent do. Then DeviceSpec::handle of Describe only stands for the
  /// device until CreateDevice has told its handle; requests for the same device have the same one.
  /// CreateDevice and AttachVolume are repeated for what exists already, and DetachVolume,
  /// DeleteDevice and SetQos are also called for what only the type knows; the bdev of a volume
  /// exists before a call. A refused call has changed nothing, whatever it was. FindExisting, List
  /// and UndoCreate find nothing.
  bool names_devices = false;
};

/// A device that is on the target though the agent did not make it.
struct ExistingDevice {
  std::vector<DeviceVolume> volumes;
  std::string mark{};  // DeviceSpec::mark of the object as it is
};

/// Something on the target that is not in the agent's record and looks like a device of this type.
struct AdoptionCandidate {
  DeviceSpec device;
  std::vector<DeviceVolume> volumes;
  std::string obstacle;  // why it cannot be adopted; empty: it can
};

/// A type of device: makes, removes and repairs its devices on the target. It keeps nothing that
/// has to outlive the process and decides nothing about who may use what: the agent does, in its
/// record.
///
/// All methods may be called from many threads at once, but never two that change one device or one
/// volume; AttachVolume and DetachVolume of several volumes of one device may run side by side.
/// They block, for as long as their context allows.
///
/// Errors. A call that fails has undone what it did, and only that; it never changes what it did
/// not make. Where it cannot undo, or cannot find out what the target did, the outcome is unknown
/// (Outcome::Unknown) and the agent calls UndoCreate, DetachVolume or DeleteDevice later, as often
/// as it takes. Target not reachable: UNAVAILABLE.
class DeviceManager {
 public:
  virtual ~DeviceManager() = default;

  /// The name in the configuration: "nvmf_tcp", say.
  virtual std::string_view name() const = 0;
  /// The case of CreateDeviceRequest.params that it serves, as its field is called in sma.proto.
  virtual std::string_view protocol() const = 0;
  virtual DeviceType type() const = 0;

  virtual DeviceTraits traits() const { return {}; }

  /// Whether a device may be deleted with volumes attached to it. May block, where the type names
  /// its devices itself.
  virtual bool deletes_with_volumes() const { return true; }

  /// Whom, besides the target, a device depends on, the same text for all devices that depend on
  /// the same: the virtual machine that it is plugged into, say. Empty: nobody. No remote call.
  virtual std::string NeighbourOf(const DeviceSpec& /*device*/) const { return {}; }

  /// Checks the parameters of `request` and gives the device that it asks for: the same device for
  /// the same meaning, however written; requests with equal `params` ask for the same. `mark` is a
  /// new one each time, for a device that is about to be created. No remote call.
  /// INVALID_ARGUMENT.
  virtual absl::StatusOr<DeviceSpec> Describe(const CreateDeviceRequest& request) const = 0;

  /// Whether `handle` has the form of this type's handles. Asked only for handles that are not in
  /// the record. No remote call.
  virtual bool OwnsHandle(std::string_view handle) const = 0;

  /// Makes ready what all devices of the type need on the target. Called after each connect, before
  /// devices are restored; must do nothing when it is all there.
  virtual absl::Status Prepare(const base::Context& context) = 0;

  /// Looks whether a device that the record does not have is on the target nevertheless, and equal
  /// to what is asked for, so that it can be taken over as it is. nullopt: its name is free.
  /// ALREADY_EXISTS: something else has its name.
  virtual absl::StatusOr<std::optional<ExistingDevice>> FindExisting(const base::Context& context,
                                                                     const DeviceSpec& device) = 0;

  /// Makes a device for which FindExisting has answered nullopt, and attaches `volume` unless it is
  /// null. ALREADY_EXISTS: something has got its name
  /// meanwhile, or the bdev of `volume` is in use elsewhere. NOT_FOUND: the bdev of `volume` did
  /// not appear.
  virtual OutcomeOr<CreatedDevice> CreateDevice(const base::Context& context,
                                                const DeviceSpec& device,
                                                const DeviceVolume* volume) = 0;

  /// Removes what a CreateDevice with these arguments has left, in whatever state, if it still is
  /// there and cannot be another's. OK when nothing of it is left.
  virtual Outcome UndoCreate(const base::Context& context, const DeviceSpec& device,
                             const DeviceVolume* volume) = 0;

  /// Removes the device with all its volumes. OK when it is not there. Under way: somebody who uses
  /// it (the guest of a virtual machine) was asked to release it and has not done so in good time.
  /// The agent's caller is then told of success; device and volumes stay in the record, as being
  /// removed, until a later DeleteDevice, which the agent sees to also after a restart, is done.
  /// Nobody gets the volumes for another device before.
  virtual Outcome DeleteDevice(const base::Context& context, const DeviceSpec& device,
                               std::span<const DeviceVolume> volumes) = 0;

  /// Attaches `volume`; gives what to keep as its `attachment`. OK when it is attached already.
  /// NOT_FOUND: its bdev did not appear. ALREADY_EXISTS: its bdev is in use elsewhere. Device
  /// missing: the device is not on the target and has to be restored first.
  virtual OutcomeOr<std::string> AttachVolume(const base::Context& /*context*/,
                                              const DeviceSpec& /*device*/,
                                              const DeviceVolume& /*volume*/) {
    return NotSupported("AttachVolume");
  }

  /// Detaches `volume` from the device. OK when it is not attached.
  virtual Outcome DetachVolume(const base::Context& /*context*/, const DeviceSpec& /*device*/,
                               const DeviceVolume& /*volume*/) {
    return NotSupported("DetachVolume");
  }

  /// What is on the target of this type.
  virtual absl::StatusOr<std::unique_ptr<DeviceListing>> List(const base::Context& context) = 0;

  /// Compares a device with the target and makes again what is missing of it. What is there but was
  /// not asked for (an operator added it) is left alone.
  virtual RestoreResult Restore(const base::Context& context, const RestoreRequest& request) = 0;

  /// Sets limits: of `volume`, or of the whole device where it is null. In `maximum` 0 means
  /// unlimited and 2^64-1 "leave it"; only limits that GetQosCapabilities names are set.
  virtual Outcome SetQos(const base::Context& /*context*/, const DeviceSpec& /*device*/,
                         const DeviceVolume* /*volume*/, const QosLimit& /*maximum*/) {
    return NotSupported("SetQos");
  }

  /// The limits that this type can apply; empty: none. No call to the target.
  virtual absl::StatusOr<GetQosCapabilitiesResponse> GetQosCapabilities(
      const base::Context& /*context*/) const {
    return GetQosCapabilitiesResponse();
  }

  /// What in `listing` is not among `known` handles and looks like a device of this type.
  virtual std::vector<AdoptionCandidate> ListAdoptionCandidates(
      const DeviceListing& /*listing*/, std::span<const std::string> /*known*/) const {
    return {};
  }

 protected:
  absl::Status NotSupported(std::string_view method) const {
    return absl::UnimplementedError(
        std::string(method).append(" is not supported by device type ").append(name()));
  }
};

}  // namespace sma
