// SPDX-License-Identifier: Apache-2.0

#include "agent/core/limits_check.h"

#include <algorithm>
#include <optional>

#include "agent/spdk/call.h"
#include "agent/spdk/qos.h"

namespace sma::core {
namespace {

// The maximum number of bdevs queried in one batch.
constexpr size_t kPortion = 128;

struct Wanted {
  const std::string* handle;
  std::string bdev_name;
  spdk::RateLimits limits;
};

// Adds the attached volumes of a device that have limits.
void AddWanted(const Core& core, const std::string& handle, std::vector<Wanted>& wanted) {
  for (const record::Volume& row : core.record->VolumesOf(handle)) {
    if (row.state != record::VolumeState::kAttached) continue;
    const std::optional<QosLimit> limits = core.record->FindLimits(row.id);
    if (!limits) continue;
    // Limits that cannot be converted are reported when the device is restored.
    absl::StatusOr<spdk::RateLimits> rates = spdk::ToRateLimits(*limits);
    if (rates.ok()) wanted.push_back({&handle, row.bdev_name, *rates});
  }
}

}  // namespace

bool AreApplied(const spdk::RateLimits& there, const spdk::RateLimits& wanted) {
  auto same = [](std::optional<uint64_t> is, std::optional<uint64_t> should) {
    return !should || is.value_or(0) == *should;
  };
  return same(there.rw_ios_per_sec, wanted.rw_ios_per_sec) &&
         same(there.rw_mbytes_per_sec, wanted.rw_mbytes_per_sec) &&
         same(there.r_mbytes_per_sec, wanted.r_mbytes_per_sec) &&
         same(there.w_mbytes_per_sec, wanted.w_mbytes_per_sec);
}

absl::StatusOr<std::vector<std::string>> FindChangedLimits(const Core& core,
                                                           const base::Context& context,
                                                           std::chrono::nanoseconds portion_time,
                                                           std::span<const std::string> handles) {
  std::vector<std::string> changed;
  size_t next = 0;
  while (next < handles.size()) {
    std::vector<Wanted> wanted;
    std::vector<jsonrpc::Request> requests;
    for (; next < handles.size() && wanted.size() < kPortion; ++next) {
      AddWanted(core, handles[next], wanted);
    }
    for (const Wanted& volume : wanted) requests.push_back(spdk::GetBdev(volume.bdev_name));
    if (requests.empty()) continue;
    const spdk::Results answers = core.target.CallMany(
        context.Child(std::chrono::steady_clock::now() + portion_time), requests);
    for (size_t i = 0; i < wanted.size(); ++i) {
      absl::StatusOr<std::optional<spdk::Bdev>> bdev = spdk::ParseBdev(answers[i]);
      if (!bdev.ok()) return bdev.status();
      if (!*bdev || AreApplied((*bdev)->limits, wanted[i].limits)) continue;
      if (changed.empty() || changed.back() != *wanted[i].handle) {
        changed.push_back(*wanted[i].handle);
      }
    }
  }
  return changed;
}

}  // namespace sma::core
