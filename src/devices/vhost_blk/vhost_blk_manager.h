#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "agent/qmp/machines.h"
#include "agent/spdk/bdev.h"
#include "agent/spdk/vhost.h"
#include "devices/vhost_blk/known_controllers.h"
#include "jsonrpc/caller.h"
#include "sma/device_manager.h"

namespace sma::vhost_blk {

struct Options {
  qmp::Buses buses{{}, false};
  /// The folder of the controllers' sockets as QEMU sees it.
  std::string socket_folder = "/var/tmp";
  /// Machines may use packed virtqueues.
  bool packed_ring = false;
  /// How long a call waits for the guest to release a device.
  std::chrono::nanoseconds unplug_wait = std::chrono::seconds(8);
  /// How long a controller may be in use after its device is unplugged.
  std::chrono::nanoseconds busy_wait = std::chrono::seconds(5);
  /// A machine that cannot be reached for so long, and has no session with the controller, counts
  /// as gone when a device is deleted.
  std::chrono::nanoseconds gone_after = std::chrono::seconds(30);
};

/// Devices that are vhost controllers of the target with a virtio-blk device each, plugged into a
/// virtual machine where there is a QEMU to ask. Each has one volume for as long as it lives;
/// nothing is kept as its `attachment`.
class VhostBlkManager : public DeviceManager {
 public:
  /// `target` outlives the manager.
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
  RestoreResult Restore(const base::Context& context, const RestoreRequest& request) override;
  Outcome SetQos(const base::Context& context, const DeviceSpec& device, const DeviceVolume* volume,
                 const QosLimit& maximum) override;
  absl::StatusOr<GetQosCapabilitiesResponse> GetQosCapabilities(
      const base::Context& context) const override;
  std::vector<AdoptionCandidate> ListAdoptionCandidates(
      const DeviceListing& listing, std::span<const std::string> known) const override;

 private:
  /// How things stand with a device and its volume.
  struct State {
    std::optional<spdk::VhostBlkController> controller;
    std::optional<std::string> bdev_name;  // the volume's bdev's own name
    absl::StatusOr<bool> plugged = true;   // true also where nothing is plugged
  };

  // create.cc
  OutcomeOr<bool> MakeController(const base::Context& context, const std::string& controller,
                                 const DeviceVolume& volume);
  absl::Status CheckOtherUser(const base::Context& context, const std::string& other,
                              const std::string& bdev_name, const DeviceVolume& volume);
  OutcomeOr<bool> ControllerRefused(const base::Context& context, const std::string& controller,
                                    const DeviceVolume& volume,
                                    const std::optional<spdk::Bdev>& bdev,
                                    const absl::Status& refusal);
  Outcome Plug(const base::Context& context, const std::string& controller,
               const qmp::Place& place);
  Outcome UndoMade(Outcome why, const std::string& controller, const qmp::Place& place,
                   bool made_controller);

  // remove.cc
  Outcome Remove(const base::Context& context, const DeviceSpec& device);
  Outcome Release(const base::Context& context, const std::string& controller,
                  qmp::Client& machine);
  absl::Status DeleteController(const base::Context& context, const std::string& controller);
  absl::StatusOr<std::optional<spdk::VhostBlkController>> FindController(
      const base::Context& context, const std::string& controller);

  // restore.cc
  absl::StatusOr<bool> IsPlugged(const base::Context& context, const DeviceSpec& device) const;
  absl::StatusOr<State> Look(const base::Context& context, const RestoreRequest& request);
  absl::StatusOr<State> LookUp(const RestoreRequest& request) const;
  absl::Status Repair(const base::Context& context, const RestoreRequest& request, State state,
                      RestoreResult& result);
  static bool IsReplaced(const State& state);
  static std::vector<std::string> Differences(const DeviceSpec& device, const State& state);
  static void Judge(const RestoreRequest& request, const absl::StatusOr<State>& state,
                    const absl::Status& error, RestoreResult& result);

  jsonrpc::Caller& target_;
  const Options options_;
  KnownControllers known_;
};

}  // namespace sma::vhost_blk
