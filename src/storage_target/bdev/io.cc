// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev/io.h"

#include <algorithm>

namespace sma::storage_target::bdev {

IoStats& IoStats::operator+=(const IoStats& other) {
  for (size_t i = 0; i < kIoTypeCount; ++i) {
    PerType& mine = by_type[i];
    const PerType& theirs = other.by_type[i];
    // A minimum latency of 0 means that no latency was counted.
    if (mine.min_latency_ns == 0 ||
        (theirs.min_latency_ns != 0 && theirs.min_latency_ns < mine.min_latency_ns)) {
      mine.min_latency_ns = theirs.min_latency_ns;
    }
    mine.max_latency_ns = std::max(mine.max_latency_ns, theirs.max_latency_ns);
    mine.ops += theirs.ops;
    mine.bytes += theirs.bytes;
    mine.latency_ns += theirs.latency_ns;
  }
  errors += other.errors;
  return *this;
}

}  // namespace sma::storage_target::bdev
