// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "agent/qmp/pci_buses.h"
#include "agent/spdk/bdev.h"
#include "agent/spdk/vhost.h"
#include "devices/pci_common/place.h"
#include "devices/vhost_blk/known_controllers.h"
#include "jsonrpc/caller.h"
#include "sma/device_manager.h"

namespace sma::vhost_blk {

struct Options {
  qmp::Buses buses{{}, false};
  /// The path at which QEMU sees the folder of the controllers' sockets.
  std::string socket_folder = "/var/tmp";
  /// VMs may use packed virtqueues.
  bool packed_ring = false;
  /// How long a call waits for the guest to release a device.
  std::chrono::nanoseconds unplug_wait = std::chrono::seconds(8);
  /// How long to wait for a controller that is still in use after its device was unplugged.
  std::chrono::nanoseconds busy_wait = std::chrono::seconds(5);
  /// If QEMU has been unreachable for this long and has no session with the controller, deleting a
  /// device treats its VM as removed.
  std::chrono::nanoseconds gone_after = std::chrono::seconds(30);
};

/// Devices that are vhost-user controllers of the target, each of which serves a virtio-blk device,
/// which is plugged into a VM if a QEMU is configured. Each device has one volume for its lifetime.
/// The volume's `attachment` is the name of the bdev that the controller was created with, which
/// identifies the owner of the controller if the volume's bdev no longer exists.
class VhostBlkManager : public DeviceManager {
 public:
  /// `target` must outlive the manager.
  VhostBlkManager(jsonrpc::Caller& target, Options options)
      : target_(target), options_(std::move(options)) {}

  std::string_view name() const override { return "vhost_blk"; }
  std::string_view protocol() const override { return "virtio_blk"; }
  DeviceType type() const override { return DEVICE_TYPE_VIRTIO_BLK; }
  DeviceTraits traits() const override { return {.needs_volume = true}; }

  absl::StatusOr<DeviceSpec> Describe(const CreateDeviceRequest& request) const override;
  bool OwnsHandle(std::string_view handle) const override;
  std::string NeighbourOf(const DeviceSpec& device) const override;
  absl::Status Prepare(const base::Context& /*context*/) override { return absl::OkStatus(); }
  absl::StatusOr<std::optional<ExistingDevice>> FindExisting(const base::Context& context,
                                                             const DeviceSpec& device) override;
  OutcomeOr<CreatedDevice> CreateDevice(const base::Context& context, const DeviceSpec& device,
                                        const DeviceVolume* volume) override;
  Outcome UndoCreate(const base::Context& context, const DeviceSpec& device,
                     const DeviceVolume* volume) override;
  Outcome DeleteDevice(const base::Context& context, const DeviceSpec& device,
                       std::span<const DeviceVolume> volumes) override;
  absl::StatusOr<std::unique_ptr<DeviceListing>> List(const base::Context& context) override;
  uint64_t FingerprintOf(const DeviceListing& listing, std::string_view handle) const override;
  RestoreResult Restore(const base::Context& context, const RestoreRequest& request) override;
  Outcome SetQos(const base::Context& context, const DeviceSpec& device, const DeviceVolume* volume,
                 const QosLimit& maximum) override;
  absl::StatusOr<GetQosCapabilitiesResponse> GetQosCapabilities(
      const base::Context& context) const override;
  std::vector<AdoptionCandidate> ListAdoptionCandidates(
      const DeviceListing& listing, std::span<const std::string> known) const override;

 private:
  /// The state of a device and its volume.
  struct State {
    std::optional<spdk::VhostBlkController> controller;
    /// The name of the volume's bdev; nullopt if it does not exist.
    std::optional<std::string> bdev_name;
    std::string attachment;  // the recorded attachment; empty if unknown
    absl::StatusOr<pci_common::PlugState> plug;
  };

  // Implemented in plug.cc; they concern the device in its VM.
  absl::StatusOr<qmp::PciSlot> SlotOf(const DeviceSpec& device) const;
  qmp::PciDevice FunctionOf(const DeviceSpec& device) const;
  absl::StatusOr<pci_common::PlugState> QueryPlug(const base::Context& context,
                                                  const DeviceSpec& device,
                                                  pci_common::Inventories& inventories) const;
  /// Sets `place` to the new DeviceSpec::place if that succeeds.
  Outcome Plug(const base::Context& context, const DeviceSpec& device, const qmp::PciSlot& slot,
               std::string& place);
  Outcome Release(const base::Context& context, const DeviceSpec& device);

  // Implemented in create.cc.
  OutcomeOr<std::string> MakeController(const base::Context& context, const std::string& controller,
                                        const DeviceVolume& volume);
  absl::Status NoteListing(const absl::StatusOr<jsonrpc::Json>& answer);
  absl::Status CheckOtherUsers(const base::Context& context, const std::string& controller,
                               const std::string& bdev_name, const base::Uuid& volume);
  absl::Status CheckOnlyUser(const base::Context& context, const std::string& controller,
                             const spdk::Bdev& bdev);
  OutcomeOr<std::string> ControllerRefused(const base::Context& context,
                                           const std::string& controller,
                                           const DeviceVolume& volume,
                                           const std::optional<spdk::Bdev>& bdev,
                                           const absl::Status& refusal);
  Outcome UndoMade(Outcome why, const std::string& controller, const DeviceSpec* plugged);

  // Implemented in remove.cc.
  Outcome Remove(const base::Context& context, const DeviceSpec& device);
  absl::StatusOr<bool> HasBdevOfOther(const base::Context& context, const State& state,
                                      const DeviceVolume& volume);
  absl::Status DeleteController(const base::Context& context, const std::string& controller);
  absl::StatusOr<std::optional<spdk::VhostBlkController>> FindController(
      const base::Context& context, const std::string& controller);

  // Implemented in restore.cc.
  absl::StatusOr<State> QueryState(const base::Context& context, const RestoreRequest& request);
  absl::StatusOr<State> StateFromListing(const base::Context& context,
                                         const RestoreRequest& request) const;
  absl::Status CheckPluggable(const base::Context& context, const std::string& controller,
                              const pci_common::PlugState& plug);
  absl::Status Repair(const base::Context& context, const RestoreRequest& request, State& state,
                      RestoreResult& result);
  static bool IsReplaced(const State& state);
  static std::vector<std::string> Differences(const DeviceSpec& device, const State& state);
  static void SetResults(const RestoreRequest& request, const absl::StatusOr<State>& state,
                         const absl::Status& error, RestoreResult& result);

  jsonrpc::Caller& target_;
  const Options options_;
  KnownControllers known_;
};

}  // namespace sma::vhost_blk
