// SPDX-License-Identifier: Apache-2.0

#include "agent/core/restore_limits.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <optional>

#include "agent/core/limits_check.h"
#include "agent/core/operation.h"
#include "agent/spdk/bdev.h"
#include "agent/spdk/qos.h"

namespace sma::core {
namespace {

// Limits stay in unset_limits until they are applied.
void NoteLimits(Core& core, const base::Uuid& key, bool are_set) {
  are_set ? core.unset_limits.Remove(key) : core.unset_limits.Add(key);
}

}  // namespace

absl::Status RestoreLimits(Core& core, const base::Context& context, DeviceManager& manager,
                           const DeviceSpec& device, const DeviceVolume& volume) {
  std::optional<QosLimit> limits = core.record->FindLimits(volume.id);
  if (!limits) {
    NoteLimits(core, volume.id, /*are_set=*/true);
    return absl::OkStatus();
  }
  // Checked before SetQos: once no earlier call can act, the limits set now are final.
  const bool may_act = MayActLate(core, {ObjectOf(volume.id)});
  absl::Status status = manager.SetQos(context, device, &volume, *limits).status();
  if (status.ok() && may_act) {
    status = absl::UnavailableError("an earlier call may still change the limits on the target");
  }
  NoteLimits(core, volume.id, status.ok());
  return status;
}

absl::Status CompareLimits(Core& core, const base::Context& context, DeviceManager& manager,
                           const DeviceSpec& device, const DeviceVolume& volume, bool repair) {
  std::optional<QosLimit> limits = core.record->FindLimits(volume.id);
  if (!limits) return absl::OkStatus();
  absl::StatusOr<spdk::RateLimits> wanted = spdk::ToRateLimits(*limits);
  if (!wanted.ok()) return wanted.status();
  absl::StatusOr<std::optional<spdk::Bdev>> bdev =
      spdk::FindBdev(core.target, context, volume.bdev_name, std::chrono::nanoseconds(0));
  if (!bdev.ok() || !*bdev || AreApplied((*bdev)->limits, *wanted)) return bdev.status();
  if (!repair) {
    return absl::UnavailableError("the limits on the target differ from the configured ones");
  }
  spdlog::warn(
      "{}: volume {}: the limits on the target differ from the configured ones, setting them again",
      device.handle, volume.id.ToString());
  return RestoreLimits(core, context, manager, device, volume);
}

absl::Status RestoreDeviceLimits(Core& core, const base::Context& context, DeviceManager& manager,
                                 const DeviceSpec& device, bool all) {
  const base::Uuid key = LimitsKeyOf(device.handle);
  if (!core.unset_limits.Contains(key) && !all) return absl::OkStatus();
  std::optional<QosLimit> limits = core.record->FindLimits(key);
  absl::Status status;
  if (limits) status = manager.SetQos(context, device, /*volume=*/nullptr, *limits).status();
  NoteLimits(core, key, status.ok());
  return status;
}

}  // namespace sma::core
