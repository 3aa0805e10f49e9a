// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/nvme/options.h"

#include <algorithm>
#include <random>

namespace sma::storage_target::bdev_nvme {
namespace {

constexpr std::chrono::milliseconds kFirstPause{100};
// A connection that has lasted this long is considered stable.
constexpr uint64_t kStableNs = 5'000'000'000;

}  // namespace

bool ReconnectOptions::IsValid() const {
  if (ctrlr_loss_timeout_sec < -1) return false;
  if (ctrlr_loss_timeout_sec == 0) {
    return reconnect_delay_sec == 0 && fast_io_fail_timeout_sec == 0;
  }
  if (reconnect_delay_sec == 0) return false;
  bool for_ever = ctrlr_loss_timeout_sec == -1;
  auto loss_sec = static_cast<uint32_t>(ctrlr_loss_timeout_sec);
  if (!for_ever && reconnect_delay_sec > loss_sec) return false;
  if (fast_io_fail_timeout_sec == 0) return true;
  return fast_io_fail_timeout_sec >= reconnect_delay_sec &&
         (for_ever || fast_io_fail_timeout_sec <= loss_sec);
}

void BackOff::ConnectionLost(uint64_t up_ns) {
  if (up_ns > kStableNs) Reset();
}

std::chrono::milliseconds BackOff::Next() {
  static thread_local std::minstd_rand random{std::random_device()()};
  std::chrono::milliseconds pause = next_;
  next_ = std::min(std::max(next_ * 2, kFirstPause), std::max(longest_, kFirstPause));
  auto spread = static_cast<unsigned>(pause.count() / 4);
  return pause - std::chrono::milliseconds(spread == 0 ? 0 : random() % spread);
}

}  // namespace sma::storage_target::bdev_nvme
