// SPDX-License-Identifier: Apache-2.0

#include "storage_target/reactor/peer_watch.h"

#include <poll.h>

#include <chrono>

namespace sma::storage_target {
namespace {

constexpr uint64_t kDelayNs = 1'000'000;

}  // namespace

uint64_t PeerWatch::ClockNs() {
  return static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
}

bool PeerWatch::MayExecute(uint64_t now_ns, uint64_t clock_ns) {
  if (clock_ns - checked_ns_ > kDelayNs && IsClosed()) return false;
  checked_ns_ = now_ns;
  return true;
}

bool PeerWatch::IsClosed() const {
  pollfd state{.fd = socket_, .events = POLLRDHUP, .revents = 0};
  return ::poll(&state, 1, 0) > 0 && (state.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

}  // namespace sma::storage_target
