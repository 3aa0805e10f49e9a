// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <cstdint>
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

/// A device as recorded by the agent.
struct DeviceSpec {
  std::string handle;          // the device's name in the API
  CreateDeviceRequest params;  // only `params` is set, in the canonical form of Describe
  /// A string that the device manager stores in the device's object on the target, for example as a
  /// subsystem's serial number, to distinguish the object from another one with the same name.
  /// Describe chooses it for a new device; the agent records it for the device's lifetime. Empty if
  /// the type has no marks, or if the device was recorded by an agent version without them.
  std::string mark{};
  /// Opaque; where the device is besides the target, for example the VM that it was plugged into,
  /// in case the configuration changes. Describe returns it for a new device. The agent records it,
  /// and then what CreateDevice and Restore return. Empty: the type has no places, or it is
  /// unknown.
  std::string place{};
};

/// A volume as a device manager sees it.
struct DeviceVolume {
  base::Uuid id;
  std::string bdev_name;             // name or alias of the bdev to export
  std::string attachment;            // what AttachVolume returned; empty if unknown
  std::chrono::nanoseconds wait{0};  // how long the bdev may take to appear
  VolumeParameters params{};         // as requested, without keys and secrets; may be empty
  BdevPlan* plan = nullptr;          // creates the bdev; null: it exists, or appears by itself
};

/// A snapshot of the devices of one type on the target. Created by DeviceManager::List; only that
/// manager reads it.
class DeviceListing {
 public:
  virtual ~DeviceListing() = default;
};

/// Arguments of DeviceManager::Restore: a device with its volumes in their requested state.
struct RestoreRequest {
  const DeviceSpec& device;
  std::span<const DeviceVolume> volumes;
  /// The state of the target; if null, the manager queries this device itself.
  const DeviceListing* listing = nullptr;
  /// If false, differences are only reported.
  bool repair = true;
  /// If false, hosts cannot connect to a recreated device while volumes of it are missing, because
  /// they would treat these volumes as removed.
  bool expose_incomplete = true;
  /// If false, `volumes` may be incomplete, so a missing device is not recreated
  /// (RestoreResult::is_device_missing).
  bool recreate = true;
};

struct RestoredVolume {
  /// The new DeviceVolume::attachment, or why the volume is not attached.
  absl::StatusOr<std::string> attachment = std::string();
  /// True if the volume was not attached and now is.
  bool attached_again = false;
};

struct RestoreResult {
  /// OK if the device itself, regardless of its volumes, is as requested.
  absl::Status status;
  /// True if the device is missing and was not recreated, because RestoreRequest::recreate is
  /// false.
  bool is_device_missing = false;
  /// One for each volume of the request, in the same order.
  std::vector<RestoredVolume> volumes;
  /// Human-readable descriptions of the differences that were found.
  std::vector<std::string> differences;
  /// The DeviceSpec::mark to record for a device whose mark was not known; empty if there is none.
  std::string mark{};
  /// The new DeviceSpec::place to record; empty: as it was.
  std::string place{};
};

/// Result of CreateDevice.
struct CreatedDevice {
  /// The device's handle: DeviceSpec::handle, unless the type names its devices itself.
  std::string handle;
  std::string attachment;  // the new DeviceVolume::attachment; empty without a volume
  std::string place{};     // the new DeviceSpec::place; empty: as it was
};

/// Properties of a device type that the agent must know. They never change.
struct DeviceTraits {
  /// CreateDevice needs a volume, which stays attached until the device is deleted.
  bool needs_volume = false;

  /// CreateDevice and AttachVolume execute DeviceVolume::plan, which is never set for other types:
  /// they send its requests before their own. If CheckResults fails, they roll back their own
  /// changes but not those of the plan, and return its outcome.
  bool takes_plans = false;

  /// The type chooses handles when it creates devices and itself keeps track of which devices
  /// exist, as plugins written for SPDK's own agent do. Then the DeviceSpec::handle that Describe
  /// returns is provisional until CreateDevice returns the real one; requests for the same device
  /// have the same provisional handle. The agent repeats CreateDevice and AttachVolume for objects
  /// that exist, and calls DetachVolume, DeleteDevice and SetQos also for objects that are not in
  /// its record. The bdev of a volume exists before each call. A rejected call has changed nothing.
  /// FindExisting, List and UndoCreate find nothing.
  bool names_devices = false;
};

/// A device that exists on the target but is not in the agent's record.
struct ExistingDevice {
  std::vector<DeviceVolume> volumes;
  std::string mark{};  // DeviceSpec::mark of the existing object
  /// False if a part of the device is missing; Restore adds it once the device is in the record.
  bool is_complete = true;
};

/// An object on the target that looks like a device of this type and is not in the agent's record.
struct AdoptionCandidate {
  DeviceSpec device;
  std::vector<DeviceVolume> volumes;
  std::string obstacle;  // why it cannot be adopted; empty: it can be
};

/// A device type: creates, deletes and repairs its devices on the target. A manager keeps no state
/// that must outlive the process, and does not decide who may use a device or volume: the agent
/// decides that from its record.
///
/// Thread-safe. The agent never makes two calls concurrently that change the same device or the
/// same volume; AttachVolume and DetachVolume of different volumes of one device may run
/// concurrently. Methods with a context block until they have finished or the context ends.
///
/// Errors: a call that fails has rolled back its own changes and nothing else; it never changes
/// objects that it did not create. If it cannot roll back, or cannot find out what the target did,
/// the outcome is unknown (Outcome::Unknown) and the agent calls UndoCreate, DetachVolume or
/// DeleteDevice later, until it succeeds. UNAVAILABLE: the target cannot be reached.
class DeviceManager {
 public:
  virtual ~DeviceManager() = default;

  /// Returns the type's name in the configuration, for example "nvmf_tcp".
  virtual std::string_view name() const = 0;
  /// Returns the name of the field of the oneof CreateDeviceRequest.params (sma.proto) that this
  /// type serves.
  virtual std::string_view protocol() const = 0;
  virtual DeviceType type() const = 0;

  virtual DeviceTraits traits() const { return {}; }

  /// Returns true if a device may be deleted while volumes are attached to it. May block if the
  /// type names its devices itself.
  virtual bool deletes_with_volumes() const { return true; }

  /// Returns the failure domain, besides the target, that a device depends on, for example the VM
  /// that it is plugged into. Devices for which it returns the same string share a failure domain.
  /// Returns an empty string if there is none. Makes no remote call.
  virtual std::string NeighbourOf(const DeviceSpec& /*device*/) const { return {}; }

  /// Checks the parameters of `request` and returns the requested device with its parameters in
  /// canonical form: equal `params` mean the same request. Each call chooses a new `mark`, for a
  /// device that is about to be created. Makes no remote call. Returns INVALID_ARGUMENT if a
  /// parameter is invalid.
  virtual absl::StatusOr<DeviceSpec> Describe(const CreateDeviceRequest& request) const = 0;

  /// Returns true if `handle` has the form of this type's handles. Called only for handles that are
  /// not in the record. Makes no remote call.
  virtual bool OwnsHandle(std::string_view handle) const = 0;

  /// Creates what all devices of the type need on the target, for example a transport. Called after
  /// each connect, before devices are restored. Idempotent.
  virtual absl::Status Prepare(const base::Context& context) = 0;

  /// Looks on the target for a device that the record does not have. Returns the device if it
  /// exists as requested, so that it can be adopted; nullopt if its name is free. Returns
  /// ALREADY_EXISTS if another object has its name.
  virtual absl::StatusOr<std::optional<ExistingDevice>> FindExisting(const base::Context& context,
                                                                     const DeviceSpec& device) = 0;

  /// Creates a device for which FindExisting has returned nullopt, and attaches `volume` unless it
  /// is null. Returns ALREADY_EXISTS if another object has taken its name in the meantime or the
  /// bdev of `volume` is in use elsewhere, and NOT_FOUND if the bdev of `volume` did not appear.
  virtual OutcomeOr<CreatedDevice> CreateDevice(const base::Context& context,
                                                const DeviceSpec& device,
                                                const DeviceVolume* volume) = 0;

  /// Removes everything that a CreateDevice with these arguments may have left, whatever its state,
  /// except objects that may belong to another owner. Returns done if nothing is left.
  virtual Outcome UndoCreate(const base::Context& context, const DeviceSpec& device,
                             const DeviceVolume* volume) = 0;

  /// Deletes the device and detaches all its volumes. Returns done if it does not exist. Returns
  /// "under way" if its user (the guest of a VM) was asked to release it and has not done so in
  /// time. The agent then returns success to its caller, keeps device and volumes in the record as
  /// being deleted, and repeats DeleteDevice, also after a restart, until it is done. Until then
  /// the volumes cannot be attached to another device.
  virtual Outcome DeleteDevice(const base::Context& context, const DeviceSpec& device,
                               std::span<const DeviceVolume> volumes) = 0;

  /// Attaches `volume` and returns its new `attachment`. Idempotent. Returns NOT_FOUND if its bdev
  /// did not appear, ALREADY_EXISTS if its bdev is in use elsewhere, and "device missing" if the
  /// device is not on the target and must be restored first.
  virtual OutcomeOr<std::string> AttachVolume(const base::Context& /*context*/,
                                              const DeviceSpec& /*device*/,
                                              const DeviceVolume& /*volume*/) {
    return NotSupported("AttachVolume");
  }

  /// Detaches `volume` from the device. Idempotent.
  virtual Outcome DetachVolume(const base::Context& /*context*/, const DeviceSpec& /*device*/,
                               const DeviceVolume& /*volume*/) {
    return NotSupported("DetachVolume");
  }

  /// Queries the devices of this type that exist on the target.
  virtual absl::StatusOr<std::unique_ptr<DeviceListing>> List(const base::Context& context) = 0;

  /// Like List, but only for comparing the devices with these handles, which are all devices of the
  /// type in the record. If there are many, queries only these and in portions, so that the size of
  /// the target's responses does not grow with their number.
  virtual absl::StatusOr<std::unique_ptr<DeviceListing>> ListOf(
      const base::Context& context, std::span<const std::string> /*handles*/) {
    return List(context);
  }

  /// Returns a number that changes whenever what `listing` reports of a device changes, or 0 if the
  /// listing does not have everything that Restore checks. As long as the number, the device and
  /// its volumes are the same as at a Restore that found nothing to do, Restore is not called
  /// again. Makes no remote call.
  virtual uint64_t FingerprintOf(const DeviceListing& /*listing*/,
                                 std::string_view /*handle*/) const {
    return 0;
  }

  /// Compares a device with the target and recreates the missing parts. Parts that were not
  /// requested (for example, added by an operator) are left unchanged.
  virtual RestoreResult Restore(const base::Context& context, const RestoreRequest& request) = 0;

  /// Sets the limits of `volume`, or of the whole device if it is null. In `maximum` 0 means
  /// unlimited and 2^64-1 leaves a limit unchanged; only limits that GetQosCapabilities returns are
  /// set.
  virtual Outcome SetQos(const base::Context& /*context*/, const DeviceSpec& /*device*/,
                         const DeviceVolume* /*volume*/, const QosLimit& /*maximum*/) {
    return NotSupported("SetQos");
  }

  /// Returns the limits that this type supports, which may be none. Makes no call to the target.
  virtual absl::StatusOr<GetQosCapabilitiesResponse> GetQosCapabilities(
      const base::Context& /*context*/) const {
    return GetQosCapabilitiesResponse();
  }

  /// Returns the objects in `listing` that look like devices of this type and whose handles are not
  /// among `known`.
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
