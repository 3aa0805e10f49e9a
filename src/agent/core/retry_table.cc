// SPDX-License-Identifier: Apache-2.0

#include "agent/core/retry_table.h"

#include <algorithm>

namespace sma::core {

using std::chrono::steady_clock;

namespace {

// The longest pause before a device that failed is tried again.
constexpr std::chrono::nanoseconds kMaxRetryPause = std::chrono::seconds(5);

}  // namespace

void RetryTable::Wake(const std::string& handle) {
  auto [retry, is_new] = retries_.try_emplace(handle);
  if (is_new) retry->second.pause = min_pause_;
  retry->second.due = retry->second.woken = steady_clock::now();
}

std::vector<std::string> RetryTable::Due(base::TimePoint now, base::TimePoint& next) const {
  std::vector<std::string> due;
  for (const auto& [handle, retry] : retries_) {
    if (retry.due <= now) due.push_back(handle);
    next = std::min(next, retry.due);
  }
  return due;
}

void RetryTable::Defer(const std::string& handle) {
  auto retry = retries_.find(handle);
  if (retry != retries_.end()) retry->second.due = base::TimePoint::max();
}

std::optional<bool> RetryTable::Take(const std::string& handle) {
  auto retry = retries_.find(handle);
  if (retry == retries_.end()) return std::nullopt;
  // The entry is kept, so that a Wake() from now on is not lost.
  retry->second.due = base::TimePoint::max();
  return retry->second.since_connect;
}

void RetryTable::Note(const std::string& handle, bool is_complete, bool since_connect,
                      base::TimePoint begin) {
  auto found = retries_.find(handle);
  const bool is_woken = found != retries_.end() && found->second.woken >= begin;
  if (is_complete) {
    if (found != retries_.end() && !is_woken) retries_.erase(found);
    return;
  }
  if (found == retries_.end()) {
    found = retries_.try_emplace(handle).first;
    found->second.pause = min_pause_;
  }
  Retry& retry = found->second;
  retry.since_connect |= since_connect;
  if (is_woken) return;
  retry.due = steady_clock::now() + retry.pause;
  retry.pause = std::min<std::chrono::nanoseconds>(2 * retry.pause, kMaxRetryPause);
}

}  // namespace sma::core
