#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <unordered_map>
#include <utility>

namespace sma::target {

/// Tasks to run at a time, each once. One thread's.
class TimerQueue {
 public:
  using Id = uint64_t;  // never 0
  static constexpr uint64_t kNever = UINT64_MAX;

  Id Add(uint64_t due_ns, std::function<void()> task);
  void Cancel(Id id);
  /// Runs what is due at `now_ns`; tasks that the tasks add wait for the next call. False when
  /// nothing was due.
  bool RunDue(uint64_t now_ns);
  /// When the next task is due; kNever without one.
  uint64_t next_due_ns() const { return tasks_.empty() ? kNever : tasks_.begin()->first.first; }
  size_t size() const { return tasks_.size(); }

 private:
  using Key = std::pair<uint64_t, Id>;  // when due, id
  std::map<Key, std::function<void()>> tasks_;
  std::unordered_map<Id, uint64_t> due_by_id_;
  Id last_id_ = 0;
};

}  // namespace sma::target
