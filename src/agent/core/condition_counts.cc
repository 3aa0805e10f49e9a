// SPDX-License-Identifier: Apache-2.0

#include "agent/core/condition_counts.h"

#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_set>

#include "agent/core/admin_messages.h"
#include "agent/core/qos_limits.h"
#include "agent/core/reconciler.h"

namespace sma::core {
namespace {

/// What is wrong with volumes, and with devices because of their volumes.
struct Problems {
  std::set<base::Uuid> cut_off;   // volumes without a path that is up
  std::set<std::string> devices;  // with a volume that has any problem
};

Problems FindProblems(const Core& core, volume::PathCount& all) {
  Problems problems;
  const std::map<base::Uuid, PathFacts::Fact> facts = core.paths->All();
  core.record->VisitVolumes([&](const record::Volume& row) {
    const auto found = facts.find(row.id);
    std::optional<PathFacts::Fact> paths;
    if (found != facts.end()) paths = found->second;
    if (paths) {
      all.up += paths->paths.up;
      all.total += paths->paths.total;
      if (paths->is_down()) problems.cut_off.insert(row.id);
    }
    if (ProblemOf(row, paths)) problems.devices.insert(row.device_handle);
  });
  return problems;
}

/// Returns the device types whose devices with, or without, remote volumes have not been compared
/// with the target since the last connect.
std::set<std::string, std::less<>> TypesNotCompared(const Core& core, const Reconciler& reconciler,
                                                    bool is_remote) {
  std::set<std::string, std::less<>> names;
  for (const auto& manager : core.registry.managers()) {
    std::string name(manager->name());
    if (!reconciler.ComparisonOf(name, is_remote).is_done) names.insert(std::move(name));
  }
  return names;
}

/// The devices that have not been compared with the target since the last connect: all of them
/// while the agent or the target has just started.
struct NotCompared {
  std::unordered_set<std::string> devices;
  std::unordered_set<std::string> local;  // whose local volumes have not been compared either
};

NotCompared FindNotCompared(const Core& core, const Reconciler& reconciler) {
  NotCompared found;
  const auto remote_types = TypesNotCompared(core, reconciler, /*is_remote=*/true);
  if (remote_types.empty()) return found;
  const auto local_types = TypesNotCompared(core, reconciler, /*is_remote=*/false);
  std::unordered_set<std::string> with_remote;
  core.record->VisitVolumes([&](const record::Volume& row) {
    if (volume::IsRemote(row)) with_remote.insert(row.device_handle);
  });
  core.record->VisitDevices([&](const record::Device& row) {
    const bool is_local = local_types.contains(row.manager);
    if (is_local) found.local.insert(row.handle);
    if (is_local || (remote_types.contains(row.manager) && with_remote.contains(row.handle))) {
      found.devices.insert(row.handle);
    }
  });
  return found;
}

struct Counts {
  uint32_t devices = 0;
  uint32_t volumes = 0;
};

/// Counts the objects whose limits on the target may differ from those that were set.
// `without_key` are the volumes whose key is needed: no bdev has their limits.
Counts CountUnsetLimits(const Core& core, const std::set<base::Uuid>& without_key) {
  Counts counts;
  std::set<base::Uuid> keys = core.unset_limits.All();
  keys.insert(without_key.begin(), without_key.end());
  for (const base::Uuid& key : keys) {
    if (!ReportedLimits(core.record->FindLimits(key))) continue;
    ++(core.record->FindVolume(key) ? counts.volumes : counts.devices);
  }
  return counts;
}

}  // namespace

ConditionCounts CountConditions(const Core& core, const Reconciler& reconciler) {
  ConditionCounts counts;
  const bool is_silent = !reconciler.Target().answers;
  const Problems problems = FindProblems(core, counts.paths);
  const NotCompared not_compared = FindNotCompared(core, reconciler);
  Counts all;
  Counts off;
  Counts restoring;
  core.record->VisitDevices([&](const record::Device& row) {
    const bool is_off = StateOf(row) != admin::v1::STATE_READY;
    const bool is_restoring = not_compared.devices.contains(row.handle);
    ++all.devices;
    if (is_off) ++off.devices;
    if (is_restoring) ++restoring.devices;
    if (is_off || is_restoring || is_silent || problems.devices.contains(row.handle)) {
      ++counts.degraded;
    }
  });
  std::set<base::Uuid> keys_needed;
  core.record->VisitVolumes([&](const record::Volume& row) {
    const admin::v1::State state = StateOf(row);
    const bool is_off = state != admin::v1::STATE_READY || problems.cut_off.contains(row.id);
    const bool is_uncompared = (volume::IsRemote(row) ? not_compared.devices : not_compared.local)
                                   .contains(row.device_handle);
    ++all.volumes;
    if (is_off) ++off.volumes;
    if (is_uncompared || core.volumes->IsConnecting(row)) ++restoring.volumes;
    if (is_off || is_uncompared || is_silent) ++counts.degraded;
    if (state == admin::v1::STATE_KEY_NEEDED) keys_needed.insert(row.id);
  });
  if (!is_silent) all = {};
  const Counts unset_limits = CountUnsetLimits(core, keys_needed);
  counts.conditions = {
      {"device", "TargetAnswers", all.devices},
      {"device", "OnTarget", off.devices},
      {"device", "VolumesReachable", static_cast<uint32_t>(problems.devices.size())},
      {"device", "Restoring", restoring.devices},
      {"device", "LimitsApplied", unset_limits.devices},
      {"volume", "TargetAnswers", all.volumes},
      {"volume", "Attached", off.volumes},
      {"volume", "PathsUp", static_cast<uint32_t>(problems.cut_off.size())},
      {"volume", "KeyNeeded", static_cast<uint32_t>(keys_needed.size())},
      {"volume", "Restoring", restoring.volumes},
      {"volume", "LimitsApplied", unset_limits.volumes},
  };
  return counts;
}

}  // namespace sma::core
