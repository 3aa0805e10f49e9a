// SPDX-License-Identifier: Apache-2.0

#include "agent/core/core.h"

#include <fmt/format.h>

namespace sma::core {

namespace {

// The agent's namespace UUID, for version 5 UUIDs that are derived from handles.
constexpr char kHandleNameSpace[] = "c5c4a1f7-40b5-4f6a-9d3c-6f0b6d0f4e52";

}  // namespace

DeviceSpec SpecOf(const record::Device& row) {
  return {.handle = row.handle, .params = row.params, .mark = row.mark, .place = row.place};
}

DeviceVolume VolumeOf(const record::Volume& row) {
  return {
      .id = row.id, .bdev_name = row.bdev_name, .attachment = row.attachment, .params = row.params};
}

DeviceVolume UnknownVolume(const base::Uuid& id) {
  DeviceVolume volume;
  volume.id = id;
  volume.bdev_name = id.ToString();
  return volume;
}

std::vector<DeviceVolume> VolumesOf(const std::vector<record::Volume>& rows) {
  std::vector<DeviceVolume> volumes;
  for (const record::Volume& row : rows) volumes.push_back(VolumeOf(row));
  return volumes;
}

base::Uuid LimitsKeyOf(std::string_view device_handle) {
  return base::Uuid::FromName(*base::Uuid::Parse(kHandleNameSpace), device_handle);
}

absl::StatusOr<DeviceManager*> ManagerOf(const Core& core, const record::Device& row) {
  DeviceManager* manager = core.registry.ForName(row.manager);
  if (manager != nullptr) return manager;
  return absl::FailedPreconditionError(
      fmt::format("device {}: device type {} is not enabled", row.handle, row.manager));
}

absl::Status NoDeviceError(const std::string& handle) {
  return absl::NotFoundError(fmt::format("device_handle: there is no device {}", handle));
}

record::Device NewDeviceRow(const DeviceManager& manager, const DeviceSpec& device,
                            record::DeviceState state) {
  record::Device row;
  row.handle = device.handle;
  row.manager = std::string(manager.name());
  row.params = device.params;
  row.mark = device.mark;
  row.place = device.place;
  row.state = state;
  row.created = row.state_since = std::chrono::system_clock::now();
  return row;
}

absl::Status WithPendingRemoval(const absl::Status& error) {
  absl::Status told(error.code(),
                    fmt::format("{}; the removal is recorded, and will be finished in the "
                                "background as soon as possible",
                                std::string(error.message())));
  error.ForEachPayload(
      [&told](absl::string_view url, const absl::Cord& payload) { told.SetPayload(url, payload); });
  return told;
}

absl::Status AttachedElsewhereError(const record::Volume& row) {
  const bool going = row.state == record::VolumeState::kDetaching;
  return absl::Status(
      going ? absl::StatusCode::kUnavailable : absl::StatusCode::kAlreadyExists,
      fmt::format("volume {} is {} {}", row.id.ToString(),
                  going ? "still being detached from" : "attached to", row.device_handle));
}

void WakeIfDifferent(const Core& core, const std::string& handle, const absl::Status& error) {
  const bool may_differ = absl::IsNotFound(error) || absl::IsAlreadyExists(error) ||
                          absl::IsFailedPrecondition(error) || absl::IsUnavailable(error);
  if (may_differ) core.wake_background(handle);
}

void AddRemoval(const Core& /*core*/, const record::Device& row, record::Change& change) {
  change.remove_devices.push_back(row.handle);
  change.remove_limits.push_back(LimitsKeyOf(row.handle));
}

void AddRemoval(const Core& core, const record::Volume& row, record::Change& change) {
  change.remove_volumes.push_back(row.id);
  // The limits are kept in case the volume is attached again.
  if (auto limits = core.record->FindLimits(row.id)) {
    change.put_limits.push_back(
        {.volume_id = row.id, .limits = *limits, .detached = std::chrono::system_clock::now()});
  }
}

void AddLimits(const Core& core, const record::Volume& row, record::Change& change) {
  auto limits = core.record->FindLimits(row.id);
  if (limits) change.put_limits.push_back({.volume_id = row.id, .limits = *limits});
}

}  // namespace sma::core
