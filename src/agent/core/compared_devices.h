// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <string_view>
#include <unordered_map>

#include "absl/hash/hash.h"

namespace sma::core {

/// Stores a few numbers for each device that matched the record when it was last compared, so that
/// a comparison can be skipped while neither the target nor the record has changed. Not
/// thread-safe.
class ComparedDevices {
 public:
  struct Seen {
    uint64_t fingerprint = 0;  // DeviceManager::FingerprintOf; 0: never equal
    uint64_t revision = 0;     // revision of the device in the record

    friend bool operator==(const Seen&, const Seen&) = default;
  };

  bool IsSame(std::string_view handle, const Seen& seen) const {
    auto found = seen_.find(absl::HashOf(handle));
    return seen.fingerprint != 0 && found != seen_.end() && found->second == seen;
  }
  void Note(std::string_view handle, const Seen& seen) { seen_[absl::HashOf(handle)] = seen; }
  void Forget(std::string_view handle) { seen_.erase(absl::HashOf(handle)); }
  void Clear() { seen_.clear(); }
  size_t size() const { return seen_.size(); }

 private:
  // Keyed by a hash of the handle. A collision is harmless, because FingerprintOf depends on the
  // handle as well.
  std::unordered_map<size_t, Seen> seen_;
};

}  // namespace sma::core
