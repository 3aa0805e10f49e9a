// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

namespace sma::sma_nvme {

/// A histogram of latencies in nanoseconds. A bucket is at most 1/64 of its value wide, so memory
/// is constant, and adding a latency takes a few instructions.
class LatencyHistogram {
 public:
  void Add(uint64_t ns) {
    ++buckets_[BucketOf(ns)];
    ++count_;
    sum_ns_ += ns;
    max_ns_ = std::max(max_ns_, ns);
  }

  uint64_t count() const { return count_; }
  uint64_t max_ns() const { return max_ns_; }
  double mean_ns() const {
    return count_ == 0 ? 0 : static_cast<double>(sum_ns_) / static_cast<double>(count_);
  }
  /// Returns the smallest value that at least `percent` of all latencies do not exceed, with the
  /// precision of the buckets.
  uint64_t PercentileNs(double percent) const {
    auto wanted = static_cast<uint64_t>(static_cast<double>(count_) * percent / 100);
    uint64_t seen = 0;
    for (size_t i = 0; i < buckets_.size(); ++i) {
      seen += buckets_[i];
      if (seen > wanted || (seen == count_ && count_ > 0)) return std::min(UpperEndOf(i), max_ns_);
    }
    return 0;
  }

 private:
  static constexpr uint32_t kSubBits = 6;
  static constexpr size_t kBuckets = (64 - kSubBits + 1) << kSubBits;

  static size_t BucketOf(uint64_t value) {
    if (value < (1u << kSubBits)) return value;
    auto shift = static_cast<uint32_t>(std::bit_width(value)) - kSubBits - 1;
    return ((shift + 1) << kSubBits) + (value >> shift) - (1u << kSubBits);
  }
  static uint64_t UpperEndOf(size_t bucket) {
    if (bucket < (1u << kSubBits)) return bucket;
    uint64_t shift = (bucket >> kSubBits) - 1;
    uint64_t value = (bucket & ((1u << kSubBits) - 1)) + (1u << kSubBits);
    return ((value + 1) << shift) - 1;
  }

  std::array<uint64_t, kBuckets> buckets_{};
  uint64_t count_ = 0;
  uint64_t sum_ns_ = 0;
  uint64_t max_ns_ = 0;
};

}  // namespace sma::sma_nvme
