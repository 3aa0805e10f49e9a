// SPDX-License-Identifier: Apache-2.0

#include "agent/core/qos_limits.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "agent/spdk/qos.h"

namespace sma::core {

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

uint64_t Get(const QosLimit& limits, const LimitField& field) { return (limits.*field.get)(); }

}  // namespace

absl::Status CheckSupported(const QosLimit& maximum, const Capabilities& capabilities) {
  for (const LimitField& field : kLimits) {
    const uint64_t limit = Get(maximum, field);
    if (limit != 0 && limit != spdk::kKeepLimit && !(capabilities.*field.supported)()) {
      return absl::InvalidArgumentError(
          fmt::format("maximum.{}: this device does not support this limit", field.name));
    }
  }
  return absl::OkStatus();
}

bool ChangesNothing(const QosLimit& maximum, const Capabilities& capabilities) {
  return std::all_of(kLimits.begin(), kLimits.end(), [&](const LimitField& field) {
    return !(capabilities.*field.supported)() || Get(maximum, field) == spdk::kKeepLimit;
  });
}

QosLimit Merged(const std::optional<QosLimit>& before, const QosLimit& maximum) {
  QosLimit merged;
  for (const LimitField& field : kLimits) {
    const uint64_t limit = Get(maximum, field);
    const uint64_t old = before ? Get(*before, field) : spdk::kKeepLimit;
    (merged.*field.set)(limit == spdk::kKeepLimit ? old : limit);
  }
  return merged;
}

QosLimit Inverse(const std::optional<QosLimit>& before, const QosLimit& maximum) {
  QosLimit inverse;
  for (const LimitField& field : kLimits) {
    const uint64_t old = before ? Get(*before, field) : 0;
    const bool changed = Get(maximum, field) != spdk::kKeepLimit;
    (inverse.*field.set)(changed ? (old == spdk::kKeepLimit ? 0 : old) : spdk::kKeepLimit);
  }
  return inverse;
}

std::optional<QosLimit> ReportedLimits(const std::optional<QosLimit>& limits) {
  if (!limits || !HasLimits(*limits)) return std::nullopt;
  QosLimit told;
  for (const LimitField& field : kLimits) {
    const uint64_t limit = Get(*limits, field);
    (told.*field.set)(limit == spdk::kKeepLimit ? 0 : limit);
  }
  return told;
}

QosLimit Unlimited(const QosLimit& limits) {
  QosLimit unlimited;
  for (const LimitField& field : kLimits) {
    const bool is_set = Get(limits, field) != spdk::kKeepLimit;
    (unlimited.*field.set)(is_set ? 0 : spdk::kKeepLimit);
  }
  return unlimited;
}

bool HasLimits(const QosLimit& limits) {
  return std::any_of(kLimits.begin(), kLimits.end(), [&](const LimitField& field) {
    const uint64_t limit = Get(limits, field);
    return limit != 0 && limit != spdk::kKeepLimit;
  });
}

bool SameLimits(const QosLimit& a, const QosLimit& b) {
  return std::all_of(kLimits.begin(), kLimits.end(),
                     [&](const LimitField& field) { return Get(a, field) == Get(b, field); });
}

}  // namespace sma::core
