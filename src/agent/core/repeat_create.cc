// SPDX-License-Identifier: Apache-2.0

#include <fmt/format.h>
#include <google/protobuf/util/message_differencer.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_replace.h"
#include "agent/core/creation.h"
#include "agent/core/operation.h"
#include "agent/core/restore.h"
#include "agent/core/volume_steps.h"

namespace sma::core {

using record::DeviceState;
using record::VolumeState;

namespace {

// Returns the parameters that differ, for example `modified: nvmf_tcp.trsvcid: "4420" -> "4421"`.
std::string DifferencesOf(const CreateDeviceRequest& known, const CreateDeviceRequest& asked) {
  std::string report;
  google::protobuf::util::MessageDifferencer differencer;
  differencer.ReportDifferencesToString(&report);
  differencer.Compare(known, asked);
  while (report.ends_with('\n')) report.pop_back();
  return absl::StrReplaceAll(report, {{"\n", "; "}});
}

// Returns true if `request` describes the volume of `row` as the record does, without a query.
bool IsRecordedAs(const Core& core, const VolumeRequest& request, const record::Volume& row) {
  if (core.volumes->MatchesRecord(request, row)) return true;
  const bool is_plain = !request.keys && !row.params.has_crypto();
  return is_plain && !volume::IsRemote(row) &&
         request.params.connection_params_case() == VolumeParameters::CONNECTION_PARAMS_NOT_SET;
}

// Returns true if one query shows that the device and its volumes are on the target as the record
// says. Volumes that are known to be missing do not count: they are restored in the background.
bool IsIntact(Core& core, const base::Context& context, DeviceManager& manager,
              const record::Device& row, const VolumeRequest* request) {
  std::vector<record::Volume> rows = core.record->VolumesOf(row.handle);
  std::erase_if(rows, [](const record::Volume& volume) {
    return volume.state != VolumeState::kAttached ||
           volume.last_error.code != absl::StatusCode::kOk;
  });
  const bool has_it =
      request == nullptr || std::any_of(rows.begin(), rows.end(), [&](const record::Volume& v) {
        return v.id == request->id && IsRecordedAs(core, *request, v);
      });
  if (!has_it || (manager.traits().needs_volume && rows.size() != 1)) return false;
  const DeviceSpec device = SpecOf(row);
  const std::vector<DeviceVolume> volumes = VolumesOf(rows);
  const RestoreResult found = manager.Restore(
      context, {.device = device, .volumes = volumes, .repair = false, .recreate = false});
  if (!found.status.ok() || !found.differences.empty()) return false;
  for (size_t i = 0; i < rows.size(); ++i) {
    const absl::StatusOr<std::string>& attachment = found.volumes[i].attachment;
    if (!attachment.ok() || *attachment != rows[i].attachment) return false;
  }
  return true;
}

}  // namespace

absl::Status OtherVolumesError(const std::string& handle) {
  return absl::AlreadyExistsError(fmt::format("{}: exists with other volumes", handle));
}

absl::Status RepeatCreate(const Creation& creation, const record::Device& row) {
  auto& [core, context, manager, asked, request] = creation;
  const DeviceSpec device = SpecOf(row);
  if (row.params.SerializeAsString() != asked.params.SerializeAsString()) {
    return absl::AlreadyExistsError(fmt::format("{}: exists with other parameters: {}",
                                                device.handle,
                                                DifferencesOf(row.params, asked.params)));
  }
  std::vector<record::Volume> volumes = core.record->VolumesOf(device.handle);
  const bool has_it = request != nullptr && core.record->FindVolume(request->id).has_value();
  const bool needs_volume = manager.traits().needs_volume;
  // One that is being detached is none of its volumes any more, but where there is place for one.
  const bool has_others = std::any_of(volumes.begin(), volumes.end(), [&](const auto& volume) {
    return volume.state != VolumeState::kDetaching || needs_volume;
  });
  if (request != nullptr && !has_it && has_others) return OtherVolumesError(device.handle);
  std::erase_if(volumes, [](const record::Volume& v) { return v.state != VolumeState::kAttached; });
  const jsonrpc::CallScope scope(ObjectsOf(device.handle, volumes));
  if (has_it && volumes.size() == 1 &&
      IsIntact(core, context, manager, device, *request, volumes.front())) {
    return absl::OkStatus();
  }
  for (record::Volume& known : volumes) {
    if (request == nullptr || known.id != request->id) continue;
    absl::Status status = RepeatConnect(core, context, *request, known);
    if (!status.ok()) return WithContext(device.handle, status);
  }
  // For an encrypted volume that the request does not name, check that the bdev with the name of
  // its crypto layer is that layer: another client may have created it after the layer was removed.
  std::erase_if(volumes, [&](record::Volume& known) {
    const bool is_asked_for = creation.volume != nullptr && known.id == creation.volume->id;
    return known.params.has_crypto() && !is_asked_for &&
           !RestoreConnection(creation.core, creation.context, known).may_export;
  });
  const std::vector<DeviceVolume> attached = VolumesOf(volumes);
  RestoreResult result =
      manager.Restore(context, {.device = device, .volumes = attached, .expose_incomplete = false});
  if (!result.status.ok()) return WithContext(device.handle, result.status);
  for (size_t i = 0; i < attached.size(); ++i) {
    absl::Status status = result.volumes[i].attachment.status();
    if (status.ok() && result.volumes[i].attached_again) {
      status = ApplyLimits(core, context, manager, device, attached[i]);
    }
    const bool asked_for = request != nullptr && attached[i].id == request->id;
    if (asked_for && status.ok()) {
      status = FinishRepeat(core, volumes[i], *result.volumes[i].attachment);
    }
    if (asked_for && !status.ok()) return WithContext(device.handle, status);
  }
  if (request == nullptr || has_it) return absl::OkStatus();
  return AttachNew(core, context, manager, device, *request).status();
}

bool ExistsAsRequested(Core& core, const base::Context& context, DeviceManager& manager,
                       const DeviceSpec& device, const VolumeRequest* request) {
  if (manager.traits().names_devices) return false;
  std::vector<LockTable::Key> keys = {LockTable::Device(device.handle, /*shared=*/true)};
  if (request != nullptr) keys.push_back(LockTable::Volume(request->id));
  auto locks = core.locks.Acquire(context, std::move(keys));
  if (!locks.ok()) return false;
  // A volume that is detached meanwhile looks like one that is missing.
  constexpr int kAttempts = 3;
  for (int i = 0; i < kAttempts; ++i) {
    const uint64_t revision = core.record->revision();
    const std::optional<record::Device> row = core.record->FindDevice(device.handle);
    if (!row || row->state != DeviceState::kReady) return false;
    if (row->params.SerializeAsString() != device.params.SerializeAsString()) return false;
    if (IsIntact(core, context, manager, *row, request)) return true;
    if (core.record->revision() == revision) return false;
  }
  return false;
}

}  // namespace sma::core
