// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <unordered_map>
#include <utility>

namespace sma::storage_target {

/// One-shot tasks ordered by time. Not thread-safe.
class TimerQueue {
 public:
  using Id = uint64_t;  // never 0
  static constexpr uint64_t kNever = UINT64_MAX;

  Id Add(uint64_t due_ns, std::function<void()> task);
  void Cancel(Id id);
  /// Runs the tasks that are due at `now_ns`; calls `before_each`, which may cancel tasks, before
  /// each of them. Tasks added meanwhile wait for the next call. Returns false if none was due.
  bool RunDue(uint64_t now_ns, const std::function<void()>& before_each);
  /// Returns the time at which the next task is due, or kNever if there is none.
  uint64_t next_due_ns() const { return tasks_.empty() ? kNever : tasks_.begin()->first.first; }
  size_t size() const { return tasks_.size(); }

 private:
  using Key = std::pair<uint64_t, Id>;  // due time, id
  std::map<Key, std::function<void()>> tasks_;
  std::unordered_map<Id, uint64_t> due_by_id_;
  Id last_id_ = 0;
};

}  // namespace sma::storage_target
