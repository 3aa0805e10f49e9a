#include "agent/core/core.h"

#include <fmt/format.h>

#include <algorithm>

namespace sma::core {

namespace {

// Our own name space for UUIDs made of handles.
constexpr char kHandleNameSpace[] = "c5c4a1f7-40b5-4f6a-9d3c-6f0b6d0f4e52";

}  // namespace

DeviceSpec SpecOf(const record::Device& row) {
  return {.handle = row.handle, .params = row.params};
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
      fmt::format("device {}: its type {} is not enabled", row.handle, row.manager));
}

absl::Status IsElsewhere(const record::Volume& row) {
  const bool going = row.state == record::VolumeState::kDetaching;
  return absl::Status(
      going ? absl::StatusCode::kUnavailable : absl::StatusCode::kAlreadyExists,
      fmt::format("volume {} is {} {}", row.id.ToString(),
                  going ? "still being detached from" : "attached to", row.device_handle));
}

bool LeftLate(const Core& core, const absl::Status& error,
              const std::vector<record::Volume>& volumes) {
  const bool was_given_up = absl::IsCancelled(error) || absl::IsDeadlineExceeded(error);
  const bool has_paths =
      std::any_of(volumes.begin(), volumes.end(),
                  [](const record::Volume& volume) { return volume.params.nvmf().has_direct(); });
  return (was_given_up || has_paths) && MayActLate(core);
}

bool MayComeBack(Core& core, const std::string& handle) {
  if (!core.restored_late.Take(handle)) return false;
  if (!MayActLate(core)) return false;
  core.restored_late.Add(handle);
  return true;
}

void NoteLate(Core& core, const std::string& handle, const RestoreResult& result) {
  if (!result.differences.empty() && MayActLate(core)) core.restored_late.Add(handle);
}

}  // namespace sma::core
