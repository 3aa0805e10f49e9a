#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <utility>

#include "agent/core/use_cases.h"
#include "agent/spdk/bdev.h"
#include "agent/spdk/call.h"
#include "agent/spdk/qos.h"

namespace sma::core {

using record::Durability;
using Capabilities = GetQosCapabilitiesResponse::QosCapabilities;

namespace {

struct LimitField {
  const char* name;
  uint64_t (QosLimit::*get)() const;
  void (QosLimit::*set)(uint64_t);
  bool (Capabilities::*supported)() const;
};

constexpr std::array<LimitField, 6> kLimits{{
    {"rd_iops", &QosLimit::rd_iops, &QosLimit::set_rd_iops, &Capabilities::rd_iops},
    {"wr_iops", &QosLimit::wr_iops, &QosLimit::set_wr_iops, &Capabilities::wr_iops},
    {"rw_iops", &QosLimit::rw_iops, &QosLimit::set_rw_iops, &Capabilities::rw_iops},
    {"rd_bandwidth", &QosLimit::rd_bandwidth, &QosLimit::set_rd_bandwidth,
     &Capabilities::rd_bandwidth},
    {"wr_bandwidth", &QosLimit::wr_bandwidth, &QosLimit::set_wr_bandwidth,
     &Capabilities::wr_bandwidth},
    {"rw_bandwidth", &QosLimit::rw_bandwidth, &QosLimit::set_rw_bandwidth,
     &Capabilities::rw_bandwidth},
}};

absl::Status CheckSupported(const QosLimit& maximum, const Capabilities& capabilities) {
  for (const LimitField& field : kLimits) {
    uint64_t limit = (maximum.*field.get)();
    if (limit != 0 && limit != spdk::kKeepLimit && !(capabilities.*field.supported)()) {
      return absl::InvalidArgumentError(
          fmt::format("maximum.{}: this device cannot limit it", field.name));
    }
  }
  return absl::OkStatus();
}

// `before` with the limits that `maximum` sets; all are kept at first.
QosLimit Merged(const std::optional<QosLimit>& before, const QosLimit& maximum) {
  QosLimit merged;
  for (const LimitField& field : kLimits) {
    uint64_t limit = (maximum.*field.get)();
    uint64_t old = before ? ((*before).*field.get)() : spdk::kKeepLimit;
    (merged.*field.set)(limit == spdk::kKeepLimit ? old : limit);
  }
  return merged;
}

// The limits that take back what `maximum` sets. One that was never set by us was unlimited.
QosLimit Inverse(const std::optional<QosLimit>& before, const QosLimit& maximum) {
  QosLimit inverse;
  for (const LimitField& field : kLimits) {
    uint64_t old = before ? ((*before).*field.get)() : 0;
    bool changed = (maximum.*field.get)() != spdk::kKeepLimit;
    (inverse.*field.set)(changed ? (old == spdk::kKeepLimit ? 0 : old) : spdk::kKeepLimit);
  }
  return inverse;
}

// Whether `maximum` keeps every limit that there is.
bool ChangesNothing(const QosLimit& maximum, const Capabilities& capabilities) {
  return std::all_of(kLimits.begin(), kLimits.end(), [&](const LimitField& field) {
    return !(capabilities.*field.supported)() || (maximum.*field.get)() == spdk::kKeepLimit;
  });
}

bool HasLimits(const QosLimit& limits) {
  return std::any_of(kLimits.begin(), kLimits.end(), [&](const LimitField& field) {
    uint64_t limit = (limits.*field.get)();
    return limit != 0 && limit != spdk::kKeepLimit;
  });
}

bool SameLimits(const QosLimit& a, const QosLimit& b) {
  return std::all_of(kLimits.begin(), kLimits.end(),
                     [&](const LimitField& field) { return (a.*field.get)() == (b.*field.get)(); });
}

}  // namespace

absl::StatusOr<GetQosCapabilitiesResponse> UseCases::GetQosCapabilities(
    const base::Context& context, const GetQosCapabilitiesRequest& request) {
  absl::StatusOr<DeviceManager*> manager = core_.registry.ForType(request.device_type());
  if (!manager.ok()) return manager.status();
  return (*manager)->GetQosCapabilities(Bounded(context));
}

absl::StatusOr<record::Volume> UseCases::FindForQos(const base::Context& context,
                                                    const std::string& handle,
                                                    const base::Uuid& id) {
  std::optional<record::Volume> row = core_.record->FindVolume(id);
  bool attached = row && row->state == record::VolumeState::kAttached;
  if (attached && row->device_handle == handle) return *row;
  if (!attached) {
    absl::StatusOr<std::optional<spdk::Bdev>> bdev =
        spdk::FindBdev(core_.target, context, id.ToString(), std::chrono::nanoseconds(0));
    if (!bdev.ok()) return bdev.status();
    if (!*bdev) {
      return absl::NotFoundError(fmt::format("volume_id: there is no volume {}", id.ToString()));
    }
  }
  return absl::InvalidArgumentError(
      fmt::format("volume_id: volume {} is not attached to {}", id.ToString(), handle));
}

absl::StatusOr<SetQosResponse> UseCases::SetQos(const base::Context& caller,
                                                const SetQosRequest& request) {
  const base::Context context = Bounded(caller);
  const std::string& handle = request.device_handle();
  std::optional<record::Device> device = core_.record->FindDevice(handle);
  if (!device) {
    DeviceManager* owner = core_.registry.ForHandle(handle);
    if (owner != nullptr && owner->traits().names_devices) {
      return SetQosAutonomous(context, *owner, {.handle = handle, .params = {}}, request);
    }
    return absl::NotFoundError(fmt::format("device_handle: there is no device {}", handle));
  }
  absl::StatusOr<DeviceManager*> manager = ManagerOf(core_, *device);
  if (!manager.ok()) return manager.status();
  if ((*manager)->traits().names_devices) {
    return SetQosAutonomous(context, **manager, SpecOf(*device), request);
  }
  auto found = (*manager)->GetQosCapabilities(context);
  if (!found.ok()) return found.status();
  const GetQosCapabilitiesResponse& capabilities = *found;
  std::vector<record::Volume> of_device = core_.record->VolumesOf(handle);
  base::Uuid id;
  if (!request.volume_id().empty()) {
    absl::StatusOr<base::Uuid> checked = CheckVolumeId(request.volume_id());
    if (!checked.ok()) return checked.status();
    id = *checked;
  } else if (!capabilities.has_max_device_caps()) {
    return absl::InvalidArgumentError(
        fmt::format("volume_id: missing, and devices of type {} have no limits of their own",
                    (*manager)->name()));
  } else if (of_device.size() == 1) {
    id = of_device.front().id;  // the limits of the device are those of its one volume
  }
  const Capabilities& supported =
      request.volume_id().empty() ? capabilities.max_device_caps() : capabilities.max_volume_caps();
  absl::Status status = CheckSupported(request.maximum(), supported);
  if (!status.ok()) return status;

  auto locks = core_.locks.Acquire(
      context, {LockTable::Device(handle, /*shared=*/true), LockTable::Volume(id)});
  if (!locks.ok()) return locks.status();
  absl::StatusOr<record::Volume> row = FindForQos(context, handle, id);
  if (!row.ok()) return row.status();
  if (!request.has_maximum() || ChangesNothing(request.maximum(), supported)) {
    return SetQosResponse();
  }
  const DeviceVolume volume = VolumeOf(*row);
  status = core_.volumes->ClearLimitsBelowLayer(context, *row);
  if (!status.ok()) return WithContext(handle, status);
  status = SetLimits(context, **manager, SpecOf(*device), &volume, request.maximum());
  if (!status.ok()) return WithContext(handle, status);
  return SetQosResponse();
}

absl::Status UseCases::SetLimits(const base::Context& context, DeviceManager& manager,
                                 const DeviceSpec& device, const DeviceVolume* volume,
                                 const QosLimit& maximum) {
  const base::Uuid id = volume != nullptr ? volume->id : LimitsKeyOf(device.handle);
  const std::optional<QosLimit> before = core_.record->FindLimits(id);
  const QosLimit inverse = Inverse(before, maximum);
  // Should the agent die in between, the next one sets what the record has: so it has to have
  // something for each limit that is about to change.
  const QosLimit intent = Merged(before, inverse);
  const bool has_intent = !before || !SameLimits(*before, intent);
  absl::Status status;
  if (has_intent) status = WriteLimits(id, intent, record::Durability::kProcess);
  if (!status.ok()) return status;

  const Outcome outcome = manager.SetQos(context, device, volume, maximum);
  status = outcome.status();
  const bool may_be_set = outcome.ok() || outcome.is_unknown();
  if (status.ok()) status = context.status();
  if (status.ok()) {
    const QosLimit limits = Merged(before, maximum);
    status = WriteLimits(id, HasLimits(limits) ? std::optional(limits) : std::nullopt,
                         record::Durability::kHost);
  }
  if (status.ok()) return status;
  // Asked before: it may still be set after that.
  const bool may_act = MayActLate(core_);
  absl::Status undone;
  if (may_be_set) undone = manager.SetQos(spdk::UndoContext(), device, volume, inverse).status();
  if (!undone.ok() || may_act) {
    core_.unset_limits.Add(id);
    core_.wake_background();
  } else if (has_intent) {
    WriteLimits(id, before, record::Durability::kProcess).IgnoreError();
  }
  return status;
}

absl::Status UseCases::WriteLimits(const base::Uuid& id, const std::optional<QosLimit>& limits,
                                   record::Durability durability) {
  record::Change change;
  if (limits) {
    change.put_limits.push_back({.volume_id = id, .limits = *limits});
  } else {
    change.remove_limits.push_back(id);
  }
  return core_.record->Write(std::move(change), durability);
}

}  // namespace sma::core
