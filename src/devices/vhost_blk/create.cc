// How a device is made, and what is undone when that fails.

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

constexpr char kDriver[] = "vhost-user-blk-pci";

absl::Status InUse(const DeviceVolume& volume, std::string_view user) {
  return absl::AlreadyExistsError(
      fmt::format("volume {} is in use by {} on the target", volume.id.ToString(), user));
}

}  // namespace

// One that is there without its machine having it is no device: CreateDevice completes it.
absl::StatusOr<std::optional<ExistingDevice>> VhostBlkManager::FindExisting(
    const base::Context& context, const DeviceSpec& device) {
  const std::string name = ControllerName(device);
  if (known_.IsAbsent(target_.generation(), name)) return std::nullopt;
  absl::StatusOr<std::optional<spdk::VhostBlkController>> controller =
      FindController(context, name);
  if (!controller.ok()) return controller.status();
  if (!*controller) return std::nullopt;
  absl::StatusOr<bool> plugged = IsPlugged(context, device);
  if (!plugged.ok()) return plugged.status();
  if (!*plugged) return std::nullopt;
  std::optional<spdk::Bdev> bdev;
  if (!(*controller)->bdev_name.empty()) {
    auto found = spdk::FindBdev(target_, context, (*controller)->bdev_name, {});
    if (!found.ok()) return found.status();
    bdev = *std::move(found);
  }
  if (!bdev || !bdev->uuid) {
    return absl::AlreadyExistsError(
        fmt::format("vhost controller {} is on the target already, without a volume", name));
  }
  ExistingDevice existing;
  existing.volumes.push_back({.id = *bdev->uuid, .bdev_name = bdev->name, .attachment = ""});
  return existing;
}

OutcomeOr<CreatedDevice> VhostBlkManager::CreateDevice(const base::Context& context,
                                                       const DeviceSpec& device,
                                                       const DeviceVolume* volume) {
  if (volume == nullptr) return absl::InvalidArgumentError("volume: missing");
  const std::string name = ControllerName(device);
  absl::StatusOr<qmp::Place> place = options_.buses.Find(device.params.virtio_blk().physical_id());
  if (!place.ok()) return place.status();
  OutcomeOr<bool> made = MakeController(context, name, *volume);
  if (!made.ok()) return made.outcome();
  Outcome outcome = Plug(context, name, *place);
  if (outcome.ok()) outcome = context.status();
  if (!outcome.ok()) return UndoMade(std::move(outcome), name, *place, *made);
  return CreatedDevice{.handle = device.handle, .attachment = {}};
}

// False: it was there already, just as it has to be.
OutcomeOr<bool> VhostBlkManager::MakeController(const base::Context& context,
                                                const std::string& controller,
                                                const DeviceVolume& volume) {
  const Request requests[] = {
      spdk::GetBdev(volume.bdev_name),
      spdk::CreateVhostBlkController(controller, volume.bdev_name, options_.packed_ring)};
  const spdk::Results results = spdk::CallToEnd(target_, context, requests);
  absl::StatusOr<std::optional<spdk::Bdev>> bdev = spdk::ParseBdev(results[0]);
  const absl::Status& refusal = results[1].status();
  if (!refusal.ok()) {
    Outcome outcome = refusal;
    if (outcome.is_unknown()) known_.Add(controller, "");
    if (!jsonrpc::GetTargetError(refusal)) return outcome;
    if (!bdev.ok()) return bdev.status();
    return ControllerRefused(context, controller, volume, *bdev, refusal);
  }
  const std::string bdev_name = bdev.ok() && *bdev ? (*bdev)->name : std::string();
  known_.Add(controller, bdev_name);
  // The target lets any number of controllers have one bdev.
  std::optional<std::string> other = known_.OtherUserOf(bdev_name, controller);
  absl::Status status;
  if (bdev_name.empty()) {
    status = absl::UnavailableError(fmt::format("volume {} went away", volume.id.ToString()));
  } else if (other) {
    status = CheckOtherUser(context, *other, bdev_name, volume);
  }
  if (status.ok()) return true;
  return UndoMade(std::move(status), controller, {}, /*made_controller=*/true);
}

// Whether a controller that was known to have a bdev still has it.
absl::Status VhostBlkManager::CheckOtherUser(const base::Context& context, const std::string& other,
                                             const std::string& bdev_name,
                                             const DeviceVolume& volume) {
  absl::StatusOr<std::optional<spdk::VhostBlkController>> there = FindController(context, other);
  if (!there.ok()) return there.status();
  if (*there && (*there)->bdev_name == bdev_name) return InUse(volume, "vhost controller " + other);
  known_.Remove(other);
  if (*there) known_.Add(other, (*there)->bdev_name);
  return absl::OkStatus();
}

OutcomeOr<bool> VhostBlkManager::ControllerRefused(const base::Context& context,
                                                   const std::string& controller,
                                                   const DeviceVolume& volume,
                                                   const std::optional<spdk::Bdev>& bdev,
                                                   const absl::Status& refusal) {
  if (spdk::IsVhostControllerThere(refusal)) {
    absl::StatusOr<std::optional<spdk::VhostBlkController>> there =
        FindController(context, controller);
    if (!there.ok()) return there.status();
    if (*there && bdev && (*there)->bdev_name == bdev->name && (*there)->session_count == 0) {
      return false;
    }
    return absl::AlreadyExistsError(fmt::format(
        "vhost controller {} is on the target already and was not made by this agent", controller));
  }
  if (!bdev && volume.wait > std::chrono::nanoseconds(0)) {
    auto found = spdk::FindBdev(target_, context, volume.bdev_name, volume.wait);
    if (!found.ok()) return found.status();
    DeviceVolume there = volume;
    there.wait = std::chrono::nanoseconds(0);
    if (*found) return MakeController(context, controller, there);
  }
  if (!bdev) {
    return absl::NotFoundError(
        fmt::format("volume {} was not found on the target", volume.id.ToString()));
  }
  if (bdev->claimed) return InUse(volume, "something else");
  return absl::InternalError(fmt::format("volume {} was refused: {}", volume.id.ToString(),
                                         std::string(refusal.message())));
}

Outcome VhostBlkManager::Plug(const base::Context& context, const std::string& controller,
                              const qmp::Place& place) {
  if (!place.machine) return absl::OkStatus();
  qmp::PciDevice device{.id = controller,
                        .driver = kDriver,
                        .bus = place.bus,
                        .slot = place.slot,
                        .chardev_path = options_.socket_folder + "/" + controller};
  if (options_.packed_ring) device.properties["packed"] = true;
  return qmp::Plug(*place.machine, context, device);
}

// Rolls back what was created before `why` ended it; unknown where not all could be.
Outcome VhostBlkManager::UndoMade(Outcome why, const std::string& controller,
                                  const qmp::Place& place, bool made_controller) {
  Outcome undone;
  if (place.machine && (why.is_unknown() || absl::IsCancelled(why.status()) ||
                        absl::IsDeadlineExceeded(why.status()))) {
    undone = Release(spdk::UndoContext(), controller, *place.machine);
  }
  if (undone.ok() && made_controller) {
    undone = DeleteController(spdk::UndoContext(), controller);
  }
  if (!undone.ok()) {
    spdlog::warn("{}: could not be undone yet: {}", controller, undone.message());
  }
  return std::move(why).AfterUndo(undone);
}

Outcome VhostBlkManager::UndoCreate(const base::Context& context, const DeviceSpec& device,
                                    const DeviceVolume* volume) {
  const std::string name = ControllerName(device);
  absl::StatusOr<std::optional<spdk::VhostBlkController>> controller =
      FindController(context, name);
  if (!controller.ok()) return controller.status();
  if (*controller && volume != nullptr && !(*controller)->bdev_name.empty()) {
    auto bdev = spdk::FindBdev(target_, context, volume->bdev_name, {});
    if (!bdev.ok()) return bdev.status();
    if (!*bdev || (*bdev)->name != (*controller)->bdev_name) {
      spdlog::warn("{}: left alone, it has another bdev than a failed CreateDevice asked for",
                   name);
      known_.Add(name, (*controller)->bdev_name);
      return absl::OkStatus();
    }
  }
  return Remove(context, device);
}

}  // namespace sma::vhost_blk
