// SPDX-License-Identifier: Apache-2.0

#include "storage_target/reactor/timer_queue.h"

namespace sma::storage_target {

TimerQueue::Id TimerQueue::Add(uint64_t due_ns, std::function<void()> task) {
  Id id = ++last_id_;
  tasks_.emplace(Key(due_ns, id), std::move(task));
  due_by_id_.emplace(id, due_ns);
  return id;
}

void TimerQueue::Cancel(Id id) {
  auto found = due_by_id_.find(id);
  if (found == due_by_id_.end()) return;
  tasks_.erase(Key(found->second, id));
  due_by_id_.erase(found);
}

bool TimerQueue::RunDue(uint64_t now_ns, const std::function<void()>& before_each) {
  const Id last_present = last_id_;
  bool ran = false;
  auto next = tasks_.begin();
  while (next != tasks_.end() && next->first.first <= now_ns) {
    if (next->first.second > last_present) {
      ++next;
      continue;
    }
    const Key key = next->first;
    before_each();
    next = tasks_.begin();
    auto node = tasks_.extract(key);
    if (node.empty()) continue;  // cancelled
    due_by_id_.erase(node.key().second);
    node.mapped()();
    ran = true;
    next = tasks_.begin();
  }
  return ran;
}

}  // namespace sma::storage_target
