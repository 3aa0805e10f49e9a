// SPDX-License-Identifier: Apache-2.0

#include "agent/spdk/qos.h"

#include <fmt/format.h>

#include <optional>
#include <string_view>

namespace sma::spdk {
namespace {

constexpr uint64_t kIosPerThousand = 1000;
// The target stores bytes in 64 bits.
constexpr uint64_t kMaxMebibytes = UINT64_MAX >> 20;

absl::StatusOr<std::optional<uint64_t>> Convert(std::string_view name, uint64_t limit, uint64_t max,
                                                uint64_t factor) {
  if (limit == kKeepLimit) return std::optional<uint64_t>();
  if (limit > max) {
    return absl::InvalidArgumentError(
        fmt::format("maximum.{}: {} is too large; at most {}", name, limit, max));
  }
  return std::optional(limit * factor);
}

}  // namespace

GetQosCapabilitiesResponse::QosCapabilities BdevQosCapabilities() {
  GetQosCapabilitiesResponse::QosCapabilities capabilities;
  capabilities.set_rw_iops(true);
  capabilities.set_rd_bandwidth(true);
  capabilities.set_wr_bandwidth(true);
  capabilities.set_rw_bandwidth(true);
  return capabilities;
}

absl::StatusOr<RateLimits> ToRateLimits(const QosLimit& limits) {
  auto iops = Convert("rw_iops", limits.rw_iops(), UINT64_MAX / kIosPerThousand, kIosPerThousand);
  auto rd = Convert("rd_bandwidth", limits.rd_bandwidth(), kMaxMebibytes, 1);
  auto wr = Convert("wr_bandwidth", limits.wr_bandwidth(), kMaxMebibytes, 1);
  auto rw = Convert("rw_bandwidth", limits.rw_bandwidth(), kMaxMebibytes, 1);
  for (const auto* limit : {&iops, &rd, &wr, &rw}) {
    if (!limit->ok()) return limit->status();
  }
  return RateLimits{.rw_ios_per_sec = *iops,
                    .rw_mbytes_per_sec = *rw,
                    .r_mbytes_per_sec = *rd,
                    .w_mbytes_per_sec = *wr};
}

}  // namespace sma::spdk
