// SPDX-License-Identifier: Apache-2.0

// Removes a device, first from its VM and then from the target.

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>

#include "agent/qmp/hot_plug.h"
#include "agent/spdk/bdev.h"
#include "agent/spdk/call.h"
#include "devices/pci_common/unplug.h"
#include "devices/vhost_blk/params.h"
#include "devices/vhost_blk/vhost_blk_manager.h"
#include "sma/outcome.h"

namespace sma::vhost_blk {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

namespace {

// The first and the longest pause before a request for a busy controller is repeated; the pause
// doubles each time.
constexpr milliseconds kMinBusyPause{5};
constexpr milliseconds kMaxBusyPause{200};

}  // namespace

Outcome VhostBlkManager::DeleteDevice(const base::Context& context, const DeviceSpec& device,
                                      std::span<const DeviceVolume> volumes) {
  // A deletion cannot be rolled back, and the name may belong to another client's controller by
  // now.
  absl::StatusOr<State> state = QueryState(
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
                                                     const State& state,
                                                     const DeviceVolume& volume) {
  if (!state.controller || state.controller->bdev_name.empty() || state.bdev_name) return false;
  auto bdev = spdk::FindBdev(target_, context, state.controller->bdev_name, {});
  if (!bdev.ok()) return bdev.status();
  // The volume's own bdev may have been about to be removed, or has reappeared in the meantime.
  if (!*bdev || (*bdev)->name == volume.bdev_name) return false;
  return std::count((*bdev)->aliases.begin(), (*bdev)->aliases.end(), volume.bdev_name) == 0;
}

Outcome VhostBlkManager::Remove(const base::Context& context, const DeviceSpec& device) {
  if (Outcome outcome = Release(context, device); !outcome.ok()) return outcome;
  return DeleteController(context, ControllerName(device));
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
          fmt::format("a VM is still connected to vhost controller {}", controller));
    }
    absl::Status ended = context.SleepUntil(steady_clock::now() + pause);
    if (!ended.ok()) return ended;
    pause = std::min(2 * pause, kMaxBusyPause);
  }
}

absl::StatusOr<std::optional<spdk::VhostBlkController>> VhostBlkManager::FindController(
    const base::Context& context, const std::string& controller) {
  const jsonrpc::Request request = spdk::GetVhostController(controller);
  return spdk::ParseVhostController(target_.Call(context, request));
}

}  // namespace sma::vhost_blk
