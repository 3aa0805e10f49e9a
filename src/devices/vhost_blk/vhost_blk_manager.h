// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "devices/vhost_blk/controllers.h"
#include "devices/vhost_blk/device_state.h"
#include "devices/vhost_blk/options.h"
#include "devices/vhost_blk/vm_functions.h"
#include "jsonrpc/caller.h"
#include "sma/device_manager.h"

namespace sma::vhost_blk {

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
  // Queries the target and the VM.
  absl::StatusOr<DeviceState> QueryState(const base::Context& context,
                                         const RestoreRequest& request);
  absl::StatusOr<DeviceState> StateFromListing(const base::Context& context,
                                               const RestoreRequest& request) const;
  absl::Status Repair(const base::Context& context, const RestoreRequest& request,
                      DeviceState& state, RestoreResult& result);
  Outcome Undo(Outcome why, const DeviceSpec& device);
  Outcome Remove(const base::Context& context, const DeviceSpec& device);
  absl::StatusOr<bool> HasBdevOfOther(const base::Context& context, const DeviceState& state,
                                      const DeviceVolume& volume);

  jsonrpc::Caller& target_;
  const Options options_;
  Controllers controllers_{target_, options_};
  VmFunctions functions_{controllers_, options_};
};

}  // namespace sma::vhost_blk
