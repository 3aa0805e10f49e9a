// SPDX-License-Identifier: Apache-2.0

#include "base/peer_log.h"

#include "absl/hash/hash.h"

namespace sma::base {
namespace {

// A burst holds the lines of a host that connects to many subsystems; the rate is about 13 MB a
// day.
constexpr uint32_t kBurst = 100;
constexpr uint32_t kPerSecond = 1;

}  // namespace

PeerLog::PeerLog(uint32_t burst, uint32_t per_second) {
  for (size_t i = 0; i < kSlots; ++i) slots_.emplace_back(burst, per_second);
}

LogLimit& PeerLog::LimitOf(std::string_view source) {
  return slots_[absl::HashOf(source) % kSlots];
}

PeerLog& LogOfPeers() {
  static auto* log = new PeerLog(kBurst, kPerSecond);  // never destroyed: threads may still log
  return *log;
}

}  // namespace sma::base
