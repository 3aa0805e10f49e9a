#include "agent/core/limit_listing.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "agent/spdk/call.h"
#include "agent/spdk/qos.h"

namespace sma::core {
namespace {

// What is not wanted in particular may be anything.
bool Has(const spdk::RateLimits& there, const spdk::RateLimits& wanted) {
  auto same = [](std::optional<uint64_t> is, std::optional<uint64_t> should) {
    return !should || is.value_or(0) == *should;
  };
  return same(there.rw_ios_per_sec, wanted.rw_ios_per_sec) &&
         same(there.rw_mbytes_per_sec, wanted.rw_mbytes_per_sec) &&
         same(there.r_mbytes_per_sec, wanted.r_mbytes_per_sec) &&
         same(there.w_mbytes_per_sec, wanted.w_mbytes_per_sec);
}

}  // namespace

absl::StatusOr<std::unique_ptr<LimitListing>> LimitListing::Take(const Core& core,
                                                                 const base::Context& context) {
  const std::vector<record::Volume> rows = core.record->Volumes();
  const bool any = std::any_of(rows.begin(), rows.end(), [&](const record::Volume& row) {
    return core.record->FindLimits(row.id).has_value();
  });
  if (!any) return nullptr;
  const jsonrpc::Request request = spdk::GetBdevs();
  absl::StatusOr<jsonrpc::Json> answer = std::move(core.target.CallMany(context, {&request, 1})[0]);
  if (!answer.ok()) return answer.status();
  absl::StatusOr<std::vector<spdk::Bdev>> bdevs = spdk::ParseBdevs(*answer);
  if (!bdevs.ok()) return bdevs.status();
  auto listing = std::make_unique<LimitListing>();
  for (const spdk::Bdev& bdev : *bdevs) {
    listing->limits_[bdev.name] = bdev.limits;
    for (const std::string& alias : bdev.aliases) listing->limits_[alias] = bdev.limits;
  }
  return listing;
}

absl::StatusOr<bool> LimitListing::Differs(const Core& core, const base::Context& context,
                                           const DeviceVolume& volume) const {
  std::optional<QosLimit> limits = core.record->FindLimits(volume.id);
  if (!limits) return false;
  absl::StatusOr<spdk::RateLimits> wanted = spdk::ToRateLimits(*limits);
  if (!wanted.ok()) return wanted.status();
  auto listed = limits_.find(volume.bdev_name);
  if (listed == limits_.end() || Has(listed->second, *wanted)) return false;
  absl::StatusOr<std::optional<spdk::Bdev>> bdev =
      spdk::FindBdev(core.target, context, volume.bdev_name, std::chrono::nanoseconds(0));
  if (!bdev.ok()) return bdev.status();
  return *bdev && !Has((*bdev)->limits, *wanted);
}

}  // namespace sma::core
