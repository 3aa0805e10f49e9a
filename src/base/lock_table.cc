// SPDX-License-Identifier: Apache-2.0

#include "base/lock_table.h"

#include <algorithm>
#include <utility>

namespace sma::base {

absl::StatusOr<LockTable::Held> LockTable::Acquire(const Context& context, std::vector<Key> keys) {
  std::sort(keys.begin(), keys.end());
  Held held;
  held.table_ = this;
  for (Key& key : keys) {
    if (absl::Status status = Take(context, key); !status.ok()) return status;
    held.keys_.push_back(std::move(key));
  }
  return held;
}

TimePoint LockTable::PriorityEnd(const Entry& entry, TimePoint now) {
  if (entry.waiting_exclusive == 0) return now;
  const auto waited = now - entry.waiting_since;
  const auto since_begin = waited % kPriorityPeriod;
  const auto priority = kPriorityTime * (1 + waited / kPriorityPeriod);
  return since_begin < priority ? now - since_begin + priority : now;
}

absl::Status LockTable::Take(const Context& context, const Key& key) {
  // This callback wakes the waiter on a cancellation; the deadline limits the wait itself.
  uint64_t callback = context.AddCallback([this, &key] {
    MutexLock lock(mutex_);
    auto found = entries_.find(key.name);
    if (found != entries_.end()) found->second.changed.NotifyAll();
  });
  absl::Status status;
  {
    MutexLock lock(mutex_);
    Entry& entry = entries_[key.name];
    ++entry.users;
    if (!key.shared && entry.waiting_exclusive++ == 0)
      entry.waiting_since = std::chrono::steady_clock::now();
    while (true) {
      TimePoint wake = context.deadline();
      if (!entry.exclusive && key.shared) {
        const TimePoint now = std::chrono::steady_clock::now();
        const TimePoint free_at = PriorityEnd(entry, now);
        if (free_at <= now) break;
        wake = std::min(wake, free_at);
      } else if (!entry.exclusive && entry.sharers == 0) {
        break;
      }
      // Checked before each wait, because a cancellation that preceded the callback does not wake
      // this thread.
      status = context.status();
      if (!status.ok()) break;
      entry.changed.WaitUntil(mutex_, wake);
    }
    if (!key.shared) --entry.waiting_exclusive;
    if (status.ok()) {
      if (key.shared) ++entry.sharers;
      entry.exclusive = !key.shared;
    } else {
      entry.changed.NotifyAll();
      if (--entry.users == 0) entries_.erase(key.name);
    }
  }
  context.RemoveCallback(callback);
  return status;
}

void LockTable::Give(const Key& key) {
  MutexLock lock(mutex_);
  auto found = entries_.find(key.name);
  Entry& entry = found->second;
  if (key.shared) {
    --entry.sharers;
  } else {
    entry.exclusive = false;
  }
  if (--entry.users == 0) {
    entries_.erase(found);
  } else {
    entry.changed.NotifyAll();
  }
}

void LockTable::Held::Release() {
  if (table_ == nullptr) return;
  for (auto key = keys_.rbegin(); key != keys_.rend(); ++key) table_->Give(*key);
  table_ = nullptr;
}

}  // namespace sma::base
