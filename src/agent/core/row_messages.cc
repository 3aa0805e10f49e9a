// SPDX-License-Identifier: Apache-2.0

#include "agent/core/row_messages.h"

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "agent/core/admin_messages.h"
#include "agent/core/condition_counts.h"
#include "agent/core/reconciler.h"

namespace sma::core {

void RowMessages::SetCommon(const std::string& manager, bool is_remote,
                            const base::Uuid& limits_key, CommonFacts& facts) const {
  const Reconciler::TargetFact target = reconciler_.Target();
  facts.target_answers = target.answers;
  facts.target_message = target.message;
  facts.target_since = target.since;
  facts.target_was_lost = !target.is_first;
  const TypeLoop::Comparison comparison = reconciler_.ComparisonOf(manager, is_remote);
  facts.is_compared = comparison.is_done;
  facts.compared_since = comparison.since;
  facts.limits = core_.record->FindLimits(limits_key);
  facts.limits_unset_since = core_.unset_limits.Since(limits_key);
}

admin::v1::Device RowMessages::Of(const record::Device& row) const {
  const DeviceManager* manager = core_.registry.ForName(row.manager);
  const std::vector<record::Volume> volumes = core_.record->VolumesOf(row.handle);
  DeviceFacts facts;
  if (manager != nullptr) facts.type = manager->type();
  base::Uuid limits_key = LimitsKeyOf(row.handle);
  // The limits of a device with exactly one volume for its lifetime are those of the volume.
  if (manager != nullptr && manager->traits().needs_volume && volumes.size() == 1) {
    limits_key = volumes.front().id;
  }
  const bool is_remote = std::any_of(volumes.begin(), volumes.end(), volume::IsRemote);
  SetCommon(row.manager, is_remote, limits_key, facts);
  for (const record::Volume& volume : volumes) {
    const auto paths = core_.paths->Find(volume.id);
    std::optional<VolumeProblem> problem = ProblemOf(volume, paths);
    if (problem && (!facts.problem || problem->since < facts.problem->since)) {
      facts.problem = std::move(problem);
    }
    facts.well_since = std::max(facts.well_since, volume.last_error.time);
    if (paths) facts.well_since = std::max(facts.well_since, paths->reachable_since);
  }
  return DeviceMessage(row, facts, volumes);
}

admin::v1::Volume RowMessages::Of(const record::Volume& row) const {
  VolumeFacts facts;
  const std::optional<record::Device> device = core_.record->FindDevice(row.device_handle);
  SetCommon(device ? device->manager : std::string(), volume::IsRemote(row), row.id, facts);
  facts.paths = core_.paths->Find(row.id);
  facts.is_connecting = core_.volumes->IsConnecting(row);
  admin::v1::Volume message = VolumeMessage(row, facts);
  if (message.has_encryption()) {
    message.mutable_encryption()->set_engine(std::string(core_.volumes->engine_name()));
  }
  return message;
}

admin::v1::Status RowMessages::OfAgent() const {
  admin::v1::Status status;
  reconciler_.FillStatus(status);
  status.set_version(core_.options.version);
  status.mutable_target()->set_socket(core_.options.target_socket);
  status.mutable_target()->set_embedded(core_.options.embedded_target);
  status.set_device_count(static_cast<uint32_t>(core_.record->device_count()));
  status.set_volume_count(static_cast<uint32_t>(core_.record->volume_count()));
  status.set_degraded_count(CountConditions(core_, reconciler_).degraded);
  return status;
}

}  // namespace sma::core
