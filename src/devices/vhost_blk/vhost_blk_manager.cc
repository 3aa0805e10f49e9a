// SPDX-License-Identifier: Apache-2.0

#include "devices/vhost_blk/vhost_blk_manager.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "agent/spdk/bdev.h"
#include "agent/spdk/call.h"
#include "agent/spdk/qos.h"
#include "devices/pci_common/inventories.h"
#include "devices/vhost_blk/listing.h"
#include "devices/vhost_blk/params.h"

namespace sma::vhost_blk {

using pci_common::Inventories;
using pci_common::PlugState;

absl::StatusOr<DeviceSpec> VhostBlkManager::Describe(const CreateDeviceRequest& request) const {
  const virtio_blk::DeviceParameters& params = request.virtio_blk();
  if (params.virtual_id() != 0) {
    return absl::InvalidArgumentError(fmt::format(
        "virtio_blk.virtual_id: {}: virtual functions are not supported", params.virtual_id()));
  }
  absl::StatusOr<qmp::PciSlot> slot = functions_.SlotOf(params.physical_id());
  if (!slot.ok()) {
    return absl::InvalidArgumentError(
        fmt::format("virtio_blk.{}", std::string(slot.status().message())));
  }
  DeviceSpec device;
  device.handle = HandleOf(ControllerName(params.physical_id()));
  device.params.mutable_virtio_blk()->set_physical_id(params.physical_id());
  device.place = pci_common::ToText(functions_.PlaceOf(device, *slot));
  return device;
}

std::string VhostBlkManager::NeighbourOf(const DeviceSpec& device) const {
  return pci_common::NeighbourOf(device.place, functions_.SlotOf(device));
}

bool VhostBlkManager::OwnsHandle(std::string_view handle) const { return IsHandle(handle); }

// A controller that its VM does not have, and nobody else uses, is a device that is not complete. A
// device of the name in the VM is used again if it connects to the controller's socket.
absl::StatusOr<std::optional<ExistingDevice>> VhostBlkManager::FindExisting(
    const base::Context& context, const DeviceSpec& device) {
  const std::string name = ControllerName(device);
  absl::StatusOr<std::optional<spdk::VhostController>> found =
      controllers_.FindUnlessAbsent(context, name);
  if (!found.ok()) return found.status();
  const std::optional<spdk::VhostController>& controller = *found;
  pci_common::Inventories inventories;
  absl::StatusOr<pci_common::PlugState> plug = functions_.Query(context, device, inventories);
  if (!plug.ok()) return plug.status();
  if (!plug->obstacle.ok()) return plug->obstacle;
  if (!controller) return std::nullopt;
  if (!plug->is_plugged && controller->session_count > 0) {
    return absl::AlreadyExistsError(
        fmt::format("vhost controller {} exists on the target, and another VM uses it", name));
  }
  std::optional<spdk::Bdev> bdev;
  if (!controller->bdev_name.empty()) {
    auto queried = spdk::FindBdev(target_, context, controller->bdev_name, {});
    if (!queried.ok()) return queried.status();
    bdev = *std::move(queried);
  }
  if (!bdev || !bdev->uuid) {
    return absl::AlreadyExistsError(
        fmt::format("vhost controller {} exists on the target, without a volume", name));
  }
  if (absl::Status status = controllers_.CheckOnlyUser(context, name, *bdev); !status.ok())
    return status;
  ExistingDevice existing;
  existing.is_complete = plug->is_plugged;
  existing.volumes.push_back(
      {.id = *bdev->uuid, .bdev_name = bdev->name, .attachment = bdev->name});
  return existing;
}

OutcomeOr<CreatedDevice> VhostBlkManager::CreateDevice(const base::Context& context,
                                                       const DeviceSpec& device,
                                                       const DeviceVolume* volume) {
  if (volume == nullptr) return absl::InvalidArgumentError("volume: missing");
  const std::string name = ControllerName(device);
  absl::StatusOr<qmp::PciSlot> slot = functions_.SlotOf(device);
  if (!slot.ok()) return slot.status();
  OutcomeOr<std::string> bdev_name = controllers_.Make(context, name, *volume);
  if (!bdev_name.ok()) return bdev_name.outcome();
  CreatedDevice created{.handle = device.handle, .attachment = *std::move(bdev_name)};
  Outcome outcome = functions_.Plug(context, device, *slot, created.place);
  if (outcome.ok()) outcome = context.status();
  if (!outcome.ok()) return Undo(std::move(outcome), device);
  return created;
}

// Rolls back a CreateDevice that made the controller and failed with `why`. Returns an unknown
// outcome if something may remain.
Outcome VhostBlkManager::Undo(Outcome why, const DeviceSpec& device) {
  Outcome undone;
  const bool may_be_plugged =
      why.is_unknown() || absl::IsCancelled(why.status()) || absl::IsDeadlineExceeded(why.status());
  if (may_be_plugged) undone = functions_.Release(spdk::UndoContext(), device);
  if (undone.ok()) undone = controllers_.Delete(spdk::UndoContext(), ControllerName(device));
  if (!undone.ok()) {
    spdlog::warn("{}: rollback failed, will retry: {}", device.handle, undone.message());
  }
  return std::move(why).AfterUndo(undone);
}

Outcome VhostBlkManager::UndoCreate(const base::Context& context, const DeviceSpec& device,
                                    const DeviceVolume* volume) {
  absl::StatusOr<bool> is_ours =
      controllers_.IsOfFailedCreate(context, ControllerName(device), volume);
  if (!is_ours.ok()) return is_ours.status();
  if (!*is_ours) return {};
  return Remove(context, device);
}

Outcome VhostBlkManager::DeleteDevice(const base::Context& context, const DeviceSpec& device,
                                      std::span<const DeviceVolume> volumes) {
  // A deletion cannot be rolled back, and the name may belong to another client's controller by
  // now.
  absl::StatusOr<DeviceState> state = QueryState(
      context, {.device = device, .volumes = volumes.first(std::min<size_t>(volumes.size(), 1))});
  if (!state.ok()) return state.status();
  absl::StatusOr<bool> is_replaced = IsReplaced(*state);
  if (!volumes.empty() && !*is_replaced) is_replaced = HasBdevOfOther(context, *state, volumes[0]);
  if (!is_replaced.ok()) return is_replaced.status();
  if (*is_replaced) {
    spdlog::warn("{}: not removed, because its vhost controller now has bdev {}", device.handle,
                 state->controller->bdev_name);
    return {};
  }
  return Remove(context, device);
}

// Returns true if the controller has a bdev although the volume's bdev does not exist on the
// target. It is then another bdev, because a controller that has lost its bdev has none.
absl::StatusOr<bool> VhostBlkManager::HasBdevOfOther(const base::Context& context,
                                                     const DeviceState& state,
                                                     const DeviceVolume& volume) {
  if (!state.controller || state.controller->bdev_name.empty() || state.bdev_name) return false;
  auto bdev = spdk::FindBdev(target_, context, state.controller->bdev_name, {});
  if (!bdev.ok()) return bdev.status();
  // The volume's own bdev may have been about to be removed, or has reappeared in the meantime.
  if (!*bdev || (*bdev)->name == volume.bdev_name) return false;
  return std::count((*bdev)->aliases.begin(), (*bdev)->aliases.end(), volume.bdev_name) == 0;
}

Outcome VhostBlkManager::Remove(const base::Context& context, const DeviceSpec& device) {
  if (Outcome outcome = functions_.Release(context, device); !outcome.ok()) return outcome;
  return controllers_.Delete(context, ControllerName(device));
}

absl::StatusOr<std::unique_ptr<DeviceListing>> VhostBlkManager::List(const base::Context& context) {
  return controllers_.List(context);
}

// A VM does not notify the agent when a device is plugged or unplugged, so devices in VMs have no
// fingerprint.
uint64_t VhostBlkManager::FingerprintOf(const DeviceListing& listing,
                                        std::string_view handle) const {
  const std::string name = ControllerNameOf(handle);
  std::optional<uint32_t> physical_id = PhysicalIdOf(name);
  if (!physical_id) return 0;
  absl::StatusOr<qmp::PciSlot> slot = functions_.SlotOf(*physical_id);
  if (!slot.ok() || slot->vm) return 0;
  return static_cast<const Listing&>(listing).FingerprintOf(name);
}

absl::StatusOr<DeviceState> VhostBlkManager::QueryState(const base::Context& context,
                                                        const RestoreRequest& request) {
  std::vector<Request> requests{spdk::GetVhostController(ControllerName(request.device))};
  for (const DeviceVolume& volume : request.volumes) {
    requests.push_back(spdk::GetBdev(volume.bdev_name));
  }
  const spdk::Results results = target_.CallMany(context, requests);
  auto controller = spdk::ParseVhostController(results[0]);
  if (!controller.ok()) return controller.status();
  Inventories inventories;
  DeviceState state{.controller = *std::move(controller),
                    .bdev_name = std::nullopt,
                    .attachment = {},
                    .plug = functions_.Query(context, request.device, inventories)};
  if (!request.volumes.empty()) state.attachment = request.volumes.front().attachment;
  if (results.size() > 1) {
    auto bdev = spdk::ParseBdev(results[1]);
    if (!bdev.ok()) return bdev.status();
    if (*bdev) state.bdev_name = (*bdev)->name;
  }
  return state;
}

// Returns the state according to a listing.
absl::StatusOr<DeviceState> VhostBlkManager::StateFromListing(const base::Context& context,
                                                              const RestoreRequest& request) const {
  const auto& listing = static_cast<const Listing&>(*request.listing);
  if (absl::Status status = functions_.SlotOf(request.device).status(); !status.ok()) return status;
  DeviceState state{.controller = listing.FindController(ControllerName(request.device)),
                    .bdev_name = std::nullopt,
                    .attachment = {},
                    .plug = functions_.Query(context, request.device, listing.vms())};
  if (!request.volumes.empty()) {
    state.bdev_name = listing.FindBdevName(request.volumes.front().bdev_name);
    state.attachment = request.volumes.front().attachment;
  }
  return state;
}

RestoreResult VhostBlkManager::Restore(const base::Context& context,
                                       const RestoreRequest& request) {
  RestoreResult result;
  result.volumes.resize(request.volumes.size());
  absl::StatusOr<DeviceState> state = request.listing != nullptr
                                          ? StateFromListing(context, request)
                                          : QueryState(context, request);
  // The listing contains only bdevs that a controller uses. For a controller that is to be created,
  // the bdev is queried with its creation.
  const bool is_bdev_unknown =
      request.listing != nullptr && state.ok() && state->controller && !state->bdev_name;
  if (is_bdev_unknown && !request.volumes.empty()) state = QueryState(context, request);
  absl::Status error;
  if (state.ok()) {
    result.differences = Differences(request.device, *state);
    if (!result.differences.empty() && request.repair) {
      DeviceState repaired = *state;
      error = Repair(context, request, repaired, result);
      if (error.ok()) {
        state = std::move(repaired);
      } else {
        state = QueryState(context, request);
      }
    }
  }
  SetResults(request, state, error, result);
  if (result.place.empty() && state.ok() && state->plug.ok() && state->plug->is_plugged) {
    result.place = pci_common::ToText(state->plug->place);
  }
  return result;
}

// `state` is the state before the repair; on success, it is updated to the state afterwards.
absl::Status VhostBlkManager::Repair(const base::Context& context, const RestoreRequest& request,
                                     DeviceState& state, RestoreResult& result) {
  if (request.volumes.empty()) return absl::OkStatus();
  const std::string name = ControllerName(request.device);
  absl::StatusOr<qmp::PciSlot> slot = functions_.SlotOf(request.device);
  if (!slot.ok()) return slot.status();
  if (IsReplaced(state)) {
    return absl::AlreadyExistsError(
        fmt::format("vhost controller {} on the target is not the one that this agent created: it "
                    "has bdev {}",
                    name, state.controller->bdev_name));
  }
  // SPDK's controllers do not reopen a bdev that was removed.
  if (state.controller && state.controller->bdev_name.empty() && state.bdev_name) {
    if (state.plug.ok() && !state.plug->obstacle.ok()) return state.plug->obstacle;
    if (Outcome outcome = Remove(context, request.device); !outcome.ok()) return outcome.status();
    state.controller.reset();
    state.plug = PlugState{.is_plugged = !slot->vm, .place = {}};
  }
  if (!state.controller) {
    DeviceVolume volume = request.volumes.front();
    volume.wait = std::chrono::nanoseconds(0);
    OutcomeOr<std::string> made = controllers_.Make(context, name, volume);
    if (!made.ok()) return made.status();
    result.volumes.front().attached_again = true;
    state.controller = spdk::VhostController{.name = name, .bdev_name = *made};
    state.bdev_name = *std::move(made);
  }
  if (!state.plug.ok() || state.plug->is_plugged) return absl::OkStatus();
  if (absl::Status status = functions_.CheckPluggable(context, request.device, *state.plug);
      !status.ok())
    return status;
  Outcome plugged = functions_.Plug(context, request.device, *slot, result.place);
  if (plugged.ok()) state.plug->is_plugged = true;
  return plugged.status();
}

std::vector<AdoptionCandidate> VhostBlkManager::ListAdoptionCandidates(
    const DeviceListing& listing, std::span<const std::string> known) const {
  const auto& listed = static_cast<const Listing&>(listing);
  std::vector<AdoptionCandidate> candidates;
  for (const auto& [name, controller] : listed.controllers()) {
    std::optional<uint32_t> physical_id = PhysicalIdOf(name);
    if (!physical_id) continue;
    const std::string handle = HandleOf(name);
    if (std::find(known.begin(), known.end(), handle) != known.end()) continue;
    AdoptionCandidate candidate;
    candidate.device.handle = handle;
    candidate.device.params.mutable_virtio_blk()->set_physical_id(*physical_id);
    absl::StatusOr<DeviceSpec> device = Describe(candidate.device.params);
    std::optional<base::Uuid> uuid = listed.FindUuid(controller.bdev_name);
    if (!device.ok()) {
      candidate.obstacle = std::string(device.status().message());
    } else if (!uuid) {
      candidate.obstacle = "its bdev no longer exists";
    } else {
      candidate.volumes.push_back(
          {.id = *uuid, .bdev_name = uuid->ToString(), .attachment = controller.bdev_name});
    }
    candidates.push_back(std::move(candidate));
  }
  return candidates;
}

Outcome VhostBlkManager::SetQos(const base::Context& context, const DeviceSpec& /*device*/,
                                const DeviceVolume* volume, const QosLimit& maximum) {
  // A device and its volume share one rate limiter, so the limits of a device are those of its
  // volume.
  if (volume == nullptr) return absl::FailedPreconditionError("the device has no volume");
  absl::StatusOr<spdk::RateLimits> limits = spdk::ToRateLimits(maximum);
  if (!limits.ok()) return limits.status();
  return spdk::SetQosLimits(target_, context, volume->bdev_name, *limits);
}

absl::StatusOr<GetQosCapabilitiesResponse> VhostBlkManager::GetQosCapabilities(
    const base::Context& /*context*/) const {
  GetQosCapabilitiesResponse response;
  *response.mutable_max_device_caps() = spdk::BdevQosCapabilities();
  *response.mutable_max_volume_caps() = spdk::BdevQosCapabilities();
  return response;
}

}  // namespace sma::vhost_blk
