// SPDX-License-Identifier: Apache-2.0

#include "agent/core/adoption.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "agent/volume/encryption.h"
#include "jsonrpc/error.h"
#include "sma/device_params.h"

namespace sma::core {

admin::v1::AdoptionCandidate CandidateMessage(const AdoptionCandidate& candidate, DeviceType type) {
  admin::v1::AdoptionCandidate message;
  message.set_handle(candidate.device.handle);
  message.set_type(type);
  CopyParams(candidate.device.params, message);
  for (const DeviceVolume& volume : candidate.volumes) {
    message.add_volumes()->set_volume_id(volume.id.ToBytes());
    message.mutable_volumes(message.volumes_size() - 1)->set_bdev(volume.bdev_name);
  }
  message.set_obstacle(candidate.obstacle);
  return message;
}

namespace {

// Returns the rows for adopting `candidate`. Returns FAILED_PRECONDITION if it cannot be adopted,
// or if one of its volumes is in the record.
absl::StatusOr<record::Change> RowsOf(const AdoptionCandidate& candidate,
                                      const DeviceManager& manager, const record::Record& record) {
  if (!candidate.obstacle.empty()) return absl::FailedPreconditionError(candidate.obstacle);
  record::Change change;
  record::Device device;
  device.handle = candidate.device.handle;
  device.manager = std::string(manager.name());
  device.params = candidate.device.params;
  device.mark = candidate.device.mark;
  device.state = record::DeviceState::kReady;
  device.created = device.state_since = std::chrono::system_clock::now();
  change.put_devices.push_back(device);
  for (const DeviceVolume& found : candidate.volumes) {
    if (record.FindVolume(found.id)) {
      return absl::FailedPreconditionError(
          fmt::format("volume {} is already in the record", found.id.ToString()));
    }
    record::Volume volume;
    volume.id = found.id;
    volume.device_handle = device.handle;
    volume.params.set_volume_id(found.id.ToBytes());
    volume.bdev_name = found.id.ToString();
    volume.attachment = found.attachment;
    volume.state = record::VolumeState::kAttached;
    volume.created = volume.state_since = device.created;
    change.put_volumes.push_back(std::move(volume));
  }
  return change;
}

// Decides for each candidate whether it can be adopted. Returns the rows, or the reason why not.
std::vector<absl::StatusOr<record::Change>> Decide(const Core& core, const base::Context& context,
                                                   const DeviceManager& manager,
                                                   std::span<const AdoptionCandidate> candidates) {
  std::vector<absl::StatusOr<record::Change>> decisions;
  for (const AdoptionCandidate& candidate : candidates) {
    decisions.push_back(RowsOf(candidate, manager, *core.record));
  }
  std::vector<volume::Adoption> volumes;
  std::vector<size_t> owners;  // the candidates of `volumes`
  for (size_t i = 0; i < candidates.size(); ++i) {
    for (size_t j = 0; decisions[i].ok() && j < candidates[i].volumes.size(); ++j) {
      volumes.push_back(
          {.exported = candidates[i].volumes[j].bdev_name, .row = &decisions[i]->put_volumes[j]});
      owners.push_back(i);
    }
  }
  core.volumes->Adopt(context, volumes);
  for (size_t i = 0; i < volumes.size(); ++i) {
    absl::StatusOr<record::Change>& decision = decisions[owners[i]];
    if (decision.ok() && !volumes[i].status.ok()) decision = volumes[i].status;
  }
  return decisions;
}

absl::StatusOr<std::vector<AdoptionCandidate>> List(const Core& core, const base::Context& context,
                                                    DeviceManager& manager) {
  absl::StatusOr<std::unique_ptr<DeviceListing>> listing = manager.List(context);
  if (!listing.ok()) return listing.status();
  std::vector<std::string> known;
  for (const record::Device& row : core.record->Devices()) known.push_back(row.handle);
  return manager.ListAdoptionCandidates(**listing, known);
}

}  // namespace

absl::StatusOr<record::Change> RowsToAdopt(const Core& core, const base::Context& context,
                                           const DeviceManager& manager,
                                           const AdoptionCandidate& candidate) {
  return Decide(core, context, manager, {&candidate, 1}).front();
}

absl::StatusOr<std::vector<AdoptionCandidate>> FindCandidates(const Core& core,
                                                              const base::Context& context,
                                                              DeviceManager& manager) {
  absl::StatusOr<std::vector<AdoptionCandidate>> candidates = List(core, context, manager);
  // A target without the methods of a type has no devices of it.
  std::optional<jsonrpc::TargetError> refusal = jsonrpc::GetTargetError(candidates.status());
  if (refusal && refusal->code == jsonrpc::kMethodNotFound) return std::vector<AdoptionCandidate>();
  if (!candidates.ok()) return candidates;
  const auto decisions = Decide(core, context, manager, *candidates);
  for (size_t i = 0; i < decisions.size(); ++i) {
    const absl::Status& status = decisions[i].status();
    if (absl::IsUnavailable(status) || context.done()) return status;
    (*candidates)[i].obstacle = std::string(status.message());
  }
  return candidates;
}

absl::Status Adopt(Core& core, const base::Context& context, DeviceManager& manager,
                   const std::string& handle, const std::set<base::Uuid>& confirmed) {
  auto candidates = List(core, context, manager);
  if (!candidates.ok()) return candidates.status();
  auto found = std::find_if(candidates->begin(), candidates->end(),
                            [&](const AdoptionCandidate& c) { return c.device.handle == handle; });
  if (found == candidates->end()) {
    return absl::NotFoundError(fmt::format("handle: {} is not on the target", handle));
  }
  absl::StatusOr<record::Change> change = RowsToAdopt(core, context, manager, *found);
  if (!change.ok()) return WithContext(handle, change.status());
  std::set<base::Uuid> there;
  for (const DeviceVolume& volume : found->volumes) there.insert(volume.id);
  if (there != confirmed) {
    return WithContext(handle,
                       absl::FailedPreconditionError("its volumes differ from the confirmed ones"));
  }
  for (const record::Volume& row : change->put_volumes) core.volumes->NoteAdopted(row);
  return core.record->Write(*std::move(change), record::Durability::kHost);
}

}  // namespace sma::core
