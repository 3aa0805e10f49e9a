// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <vector>

namespace sma::storage_target::nvmf::vfio_user {

/// The number of completions per interrupt: the features Interrupt Coalescing and Interrupt Vector
/// Configuration (NVMe Base 2.0 §5.27.1.6 and §5.27.1.7).
class InterruptModeration {
 public:
  explicit InterruptModeration(uint32_t vector_count) : not_coalesced_(vector_count) {}

  void Reset() {
    coalescing_ = 0;
    not_coalesced_.assign(not_coalesced_.size(), false);
  }

  /// Returns the dword of the feature: bits 7:0 aggregation threshold, 0's based; 15:8 aggregation
  /// time in 100 µs.
  uint32_t coalescing() const { return coalescing_; }
  void set_coalescing(uint32_t value) { coalescing_ = value & 0xffff; }

  uint32_t vector_count() const { return static_cast<uint32_t>(not_coalesced_.size()); }
  bool is_coalesced(uint32_t vector) const { return !not_coalesced_[vector]; }
  void set_coalesced(uint32_t vector, bool yes) { not_coalesced_[vector] = !yes; }

  /// Returns true if an interrupt is due for `count` completions, the oldest of them `age_ns` old.
  bool IsDue(uint32_t vector, uint32_t count, uint64_t age_ns) const {
    const uint32_t time_100us = coalescing_ >> 8;
    if (time_100us == 0 || not_coalesced_[vector]) return true;
    return count > (coalescing_ & 0xff) || age_ns >= uint64_t{time_100us} * 100'000;
  }

 private:
  uint32_t coalescing_ = 0;
  std::vector<bool> not_coalesced_;
};

}  // namespace sma::storage_target::nvmf::vfio_user
