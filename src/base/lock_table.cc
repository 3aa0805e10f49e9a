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

absl::Status LockTable::Take(const Context& context, const Key& key) {
  // Cancelling wakes the waiter; a deadline it minds itself.
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
    if (!key.shared) ++entry.waiting_exclusive;
    while (!IsFree(entry, key.shared)) {
      // Asked before each wait: a cancel that came before the callback was there wakes nobody.
      status = context.status();
      if (!status.ok()) break;
      entry.changed.WaitUntil(mutex_, context.deadline());
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
