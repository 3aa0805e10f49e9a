// How a device is taken away: first from its machine, then from the target.

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>

#include "agent/qmp/hot_plug.h"
#include "agent/spdk/call.h"
#include "devices/vhost_blk/params.h"
#include "devices/vhost_blk/vhost_blk_manager.h"
#include "sma/outcome.h"

namespace sma::vhost_blk {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

namespace {

// The pause before a controller that was busy is asked for again doubles from the first to the
// second.
constexpr milliseconds kMinBusyPause{5};
constexpr milliseconds kMaxBusyPause{200};

}  // namespace

Outcome VhostBlkManager::DeleteDevice(const base::Context& context, const DeviceSpec& device,
                                      std::span<const DeviceVolume> volumes) {
  // Deleting cannot be undone, and the name may be somebody else's controller by now.
  absl::StatusOr<State> state = Look(
      context, {.device = device, .volumes = volumes.first(std::min<size_t>(volumes.size(), 1))});
  if (!state.ok()) return state.status();
  if (IsReplaced(*state)) {
    spdlog::warn("{}: left alone: its vhost controller has bdev {} by now", device.handle,
                 state->controller->bdev_name);
    return {};
  }
  return Remove(context, device);
}

Outcome VhostBlkManager::Remove(const base::Context& context, const DeviceSpec& device) {
  const std::string name = ControllerName(device);
  // A device whose bus is not configured any more can be in no machine that is known.
  absl::StatusOr<qmp::Place> place = options_.buses.Find(device.params.virtio_blk().physical_id());
  if (place.ok() && place->machine) {
    Outcome outcome = Release(context, name, *place->machine);
    if (!outcome.ok()) return outcome;
  }
  return DeleteController(context, name);
}

// OK when the machine does not have the device any more.
Outcome VhostBlkManager::Release(const base::Context& context, const std::string& controller,
                                 qmp::Client& machine) {
  absl::Status status =
      qmp::Unplug(machine, context.Child(steady_clock::now() + options_.unplug_wait), controller);
  if (absl::IsDeadlineExceeded(status) && !context.done()) {
    return Outcome::UnderWay(absl::UnavailableError(
        fmt::format("{}; it goes as soon as it has", std::string(status.message()))));
  }
  if (!absl::IsUnavailable(status)) return status;
  std::optional<base::TimePoint> since = machine.unreachable_since();
  if (!since || steady_clock::now() - *since < options_.gone_after) return status;
  absl::StatusOr<std::optional<spdk::VhostBlkController>> found =
      FindController(context, controller);
  if (!found.ok()) return found.status();
  if (*found && (*found)->session_count > 0) return status;
  spdlog::warn("{}: its machine at {} counts as gone", controller, machine.address().ToString());
  return absl::OkStatus();
}

absl::Status VhostBlkManager::DeleteController(const base::Context& context,
                                               const std::string& controller) {
  const base::TimePoint until = steady_clock::now() + options_.busy_wait;
  milliseconds pause = kMinBusyPause;
  while (true) {
    absl::Status status = spdk::DoToEnd(target_, context, spdk::DeleteVhostController(controller));
    if (status.ok() || spdk::IsNoSuchVhostDevice(status)) {
      known_.Remove(controller);
      return absl::OkStatus();
    }
    if (!spdk::IsVhostControllerBusy(status)) return status;
    if (steady_clock::now() >= until) {
      return absl::UnavailableError(
          fmt::format("a machine is still connected to vhost controller {}", controller));
    }
    absl::Status ended = context.SleepUntil(steady_clock::now() + pause);
    if (!ended.ok()) return ended;
    pause = std::min(2 * pause, kMaxBusyPause);
  }
}

absl::StatusOr<std::optional<spdk::VhostBlkController>> VhostBlkManager::FindController(
    const base::Context& context, const std::string& controller) {
  const jsonrpc::Request request = spdk::GetVhostController(controller);
  return spdk::ParseVhostController(target_.CallMany(context, {&request, 1}).front());
}

}  // namespace sma::vhost_blk
