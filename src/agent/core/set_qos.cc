#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <utility>

#include "agent/core/use_cases.h"
#include "agent/spdk/bdev.h"
#include "agent/spdk/call.h"
#include "agent/spdk/qos.h"
#include "jsonrpc/error.h"

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

}  // namespace

absl::StatusOr<GetQosCapabilitiesResponse> UseCases::GetQosCapabilities(
    const base::Context& /*context*/, const GetQosCapabilitiesRequest& request) {
  absl::StatusOr<DeviceManager*> manager = core_.registry.ForType(request.device_type());
  if (!manager.ok()) return manager.status();
  return (*manager)->GetQosCapabilities();
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
    return absl::NotFoundError(fmt::format("device_handle: there is no device {}", handle));
  }
  absl::StatusOr<DeviceManager*> manager = ManagerOf(core_, *device);
  if (!manager.ok()) return manager.status();
  const GetQosCapabilitiesResponse capabilities = (*manager)->GetQosCapabilities();
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
  const std::optional<QosLimit> before = core_.record->FindLimits(id);
  const DeviceSpec spec = SpecOf(*device);
  const DeviceVolume volume = VolumeOf(*row);
  status = (*manager)->SetQos(context, spec, &volume, request.maximum());
  bool may_be_set = status.ok() || jsonrpc::IsFateUnknown(status);
  if (status.ok()) status = context.status();
  if (status.ok()) {
    record::Change change;
    QosLimit limits = Merged(before, request.maximum());
    if (HasLimits(limits)) {
      change.put_limits.push_back({.volume_id = id, .limits = limits});
    } else {
      change.remove_limits.push_back(id);
    }
    status = core_.record->Write(std::move(change), Durability::kHost);
  }
  if (status.ok()) return SetQosResponse();
  if (may_be_set) {
    absl::Status undone =
        (*manager)->SetQos(spdk::UndoContext(), spec, &volume, Inverse(before, request.maximum()));
    if (!undone.ok())
      spdlog::error("{}: limits could not be set back: {}", handle, undone.ToString());
  }
  return About(handle, status);
}

}  // namespace sma::core
