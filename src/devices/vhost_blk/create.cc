// SPDX-License-Identifier: Apache-2.0

// Creates a device, and rolls back if that fails.

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <utility>

#include "agent/qmp/hot_plug.h"
#include "agent/spdk/call.h"
#include "devices/vhost_blk/params.h"
#include "devices/vhost_blk/vhost_blk_manager.h"
#include "jsonrpc/error.h"

namespace sma::vhost_blk {

using jsonrpc::Request;

namespace {

absl::Status InUse(const base::Uuid& volume, std::string_view user) {
  return absl::AlreadyExistsError(
      fmt::format("volume {} is in use by {} on the target", volume.ToString(), user));
}

}  // namespace

// A controller that its VM does not have, and nobody else uses, is a device that is not complete. A
// device of the name in the VM is used again if it connects to the controller's socket.
absl::StatusOr<std::optional<ExistingDevice>> VhostBlkManager::FindExisting(
    const base::Context& context, const DeviceSpec& device) {
  const std::string name = ControllerName(device);
  std::optional<spdk::VhostBlkController> controller;
  if (!known_.IsAbsent(target_.generation(), name)) {
    auto found = FindController(context, name);
    if (!found.ok()) return found.status();
    controller = *std::move(found);
  }
  pci_common::Inventories inventories;
  absl::StatusOr<pci_common::PlugState> plug = QueryPlug(context, device, inventories);
  if (!plug.ok()) return plug.status();
  if (!plug->obstacle.ok()) return plug->obstacle;
  if (!controller) return std::nullopt;
  if (!plug->is_plugged && controller->session_count > 0) {
    return absl::AlreadyExistsError(
        fmt::format("vhost controller {} exists on the target, and another VM uses it", name));
  }
  std::optional<spdk::Bdev> bdev;
  if (!controller->bdev_name.empty()) {
    auto found = spdk::FindBdev(target_, context, controller->bdev_name, {});
    if (!found.ok()) return found.status();
    bdev = *std::move(found);
  }
  if (!bdev || !bdev->uuid) {
    return absl::AlreadyExistsError(
        fmt::format("vhost controller {} exists on the target, without a volume", name));
  }
  if (absl::Status status = CheckOnlyUser(context, name, *bdev); !status.ok()) return status;
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
  absl::StatusOr<qmp::PciSlot> slot = SlotOf(device);
  if (!slot.ok()) return slot.status();
  OutcomeOr<std::string> bdev_name = MakeController(context, name, *volume);
  if (!bdev_name.ok()) return bdev_name.outcome();
  CreatedDevice created{.handle = device.handle, .attachment = *std::move(bdev_name)};
  Outcome outcome = Plug(context, device, *slot, created.place);
  if (outcome.ok()) outcome = context.status();
  if (!outcome.ok()) return UndoMade(std::move(outcome), name, &device);
  return created;
}

// The query before the creation shows whether the controller existed, whatever becomes of the
// creation. The listing after it shows whether the bdev has another controller. Returns the name of
// the controller's bdev.
OutcomeOr<std::string> VhostBlkManager::MakeController(const base::Context& context,
                                                       const std::string& controller,
                                                       const DeviceVolume& volume) {
  std::vector<Request> requests{
      spdk::GetBdev(volume.bdev_name), spdk::GetVhostController(controller),
      spdk::CreateVhostBlkController(controller, volume.bdev_name, options_.packed_ring)};
  if (known_.NeedsListing()) requests.push_back(spdk::GetVhostControllers());
  const spdk::Results results = spdk::CallToEnd(target_, context, requests);
  absl::StatusOr<std::optional<spdk::Bdev>> bdev = spdk::ParseBdev(results[0]);
  const auto before = spdk::ParseVhostController(results[1]);
  const absl::Status& refusal = results[2].status();
  if (!refusal.ok()) {
    const bool existed = before.ok() && *before;
    if (existed) known_.AddOthers(controller);
    Outcome outcome = existed ? Outcome::NotDone(refusal) : Outcome(refusal);
    if (outcome.is_unknown()) known_.Add(controller, "");
    if (!jsonrpc::GetTargetError(refusal)) return outcome;
    if (!bdev.ok()) return Outcome::NotDone(bdev.status());
    return ControllerRefused(context, controller, volume, *bdev, refusal);
  }
  const std::string bdev_name = bdev.ok() && *bdev ? (*bdev)->name : std::string();
  known_.AddMade(controller, bdev_name);
  absl::Status status;
  if (bdev_name.empty()) {
    status = absl::UnavailableError(
        fmt::format("volume {} was removed from the target", volume.id.ToString()));
  } else if (results.size() > 3) {
    status = NoteListing(results[3]);
  }
  if (status.ok()) status = CheckOtherUsers(context, controller, bdev_name, volume.id);
  if (status.ok()) return bdev_name;
  return UndoMade(std::move(status), controller, nullptr);
}

absl::Status VhostBlkManager::NoteListing(const absl::StatusOr<jsonrpc::Json>& answer) {
  if (!answer.ok()) return answer.status();
  absl::StatusOr<std::vector<spdk::VhostBlkController>> controllers =
      spdk::ParseVhostControllers(*answer);
  if (!controllers.ok()) return controllers.status();
  KnownControllers::BdevNames names;
  for (spdk::VhostBlkController& controller : *controllers) {
    names.emplace(std::move(controller.name), std::move(controller.bdev_name));
  }
  known_.Merge(names);
  return absl::OkStatus();
}

// The target permits any number of controllers for one bdev. Those that were known to use the bdev
// are queried, because they may have been deleted since.
absl::Status VhostBlkManager::CheckOtherUsers(const base::Context& context,
                                              const std::string& controller,
                                              const std::string& bdev_name,
                                              const base::Uuid& volume) {
  while (std::optional<std::string> other = known_.OtherUserOf(bdev_name, controller)) {
    absl::StatusOr<std::optional<spdk::VhostBlkController>> there = FindController(context, *other);
    if (!there.ok()) return there.status();
    if (*there && (*there)->bdev_name == bdev_name) {
      return InUse(volume, "vhost controller " + *other);
    }
    known_.Remove(*other);
    if (*there) known_.Add(*other, (*there)->bdev_name);
  }
  return absl::OkStatus();
}

// Returns ALREADY_EXISTS if another controller uses the bdev of an existing controller.
absl::Status VhostBlkManager::CheckOnlyUser(const base::Context& context,
                                            const std::string& controller, const spdk::Bdev& bdev) {
  absl::Status status = NoteListing(target_.Call(context, spdk::GetVhostControllers()));
  return status.ok() ? CheckOtherUsers(context, controller, bdev.name, *bdev.uuid) : status;
}

OutcomeOr<std::string> VhostBlkManager::ControllerRefused(const base::Context& context,
                                                          const std::string& controller,
                                                          const DeviceVolume& volume,
                                                          const std::optional<spdk::Bdev>& bdev,
                                                          const absl::Status& refusal) {
  if (spdk::IsVhostControllerExisting(refusal)) {
    known_.AddOthers(controller);
    return absl::AlreadyExistsError(fmt::format(
        "vhost controller {} exists on the target and was not created by this agent", controller));
  }
  if (!bdev && volume.wait > std::chrono::nanoseconds(0)) {
    auto found = spdk::FindBdev(target_, context, volume.bdev_name, volume.wait);
    if (!found.ok()) return Outcome::NotDone(found.status());
    DeviceVolume there = volume;
    there.wait = std::chrono::nanoseconds(0);
    if (*found) return MakeController(context, controller, there);
  }
  if (!bdev) {
    return absl::NotFoundError(
        fmt::format("volume {} was not found on the target", volume.id.ToString()));
  }
  if (bdev->claimed) return InUse(volume.id, "another user");
  return absl::InternalError(fmt::format("the target refused volume {}: {}", volume.id.ToString(),
                                         std::string(refusal.message())));
}

// Rolls back a CreateDevice that failed with `why`. Returns an unknown outcome if something may
// remain. `plugged` is the device that may have been plugged; null: it was not.
Outcome VhostBlkManager::UndoMade(Outcome why, const std::string& controller,
                                  const DeviceSpec* plugged) {
  Outcome undone;
  if (plugged != nullptr && (why.is_unknown() || absl::IsCancelled(why.status()) ||
                             absl::IsDeadlineExceeded(why.status()))) {
    undone = Release(spdk::UndoContext(), *plugged);
  }
  if (undone.ok()) undone = DeleteController(spdk::UndoContext(), controller);
  if (!undone.ok()) {
    spdlog::warn("{}: rollback failed, will retry: {}", controller, undone.message());
  }
  return std::move(why).AfterUndo(undone);
}

Outcome VhostBlkManager::UndoCreate(const base::Context& context, const DeviceSpec& device,
                                    const DeviceVolume* volume) {
  const std::string name = ControllerName(device);
  absl::StatusOr<std::optional<spdk::VhostBlkController>> controller =
      FindController(context, name);
  if (!controller.ok()) return controller.status();
  if (*controller && known_.IsOthers(name)) {
    spdlog::warn("{}: not removed, it existed before a failed CreateDevice", name);
    return absl::OkStatus();
  }
  if (*controller && volume != nullptr && !(*controller)->bdev_name.empty()) {
    auto bdev = spdk::FindBdev(target_, context, volume->bdev_name, {});
    if (!bdev.ok()) return bdev.status();
    if (!*bdev || (*bdev)->name != (*controller)->bdev_name) {
      spdlog::warn(
          "{}: not removed, because it has a different bdev than the failed CreateDevice requested",
          name);
      known_.Add(name, (*controller)->bdev_name);
      return absl::OkStatus();
    }
  }
  return Remove(context, device);
}

}  // namespace sma::vhost_blk
