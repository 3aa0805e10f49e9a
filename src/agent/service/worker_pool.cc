// SPDX-License-Identifier: Apache-2.0

#include "agent/service/worker_pool.h"

#include <malloc.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace sma::service {

WorkerPool::~WorkerPool() {
  base::MutexLock lock(mutex_);
  stopping_ = true;
  work_or_stop_.NotifyAll();
  while (threads_ > 0) thread_ended_.Wait(mutex_);
  JoinEnded();
}

bool WorkerPool::Submit(std::function<void()> work, const api::Neighbour& lane) {
  {
    base::MutexLock lock(mutex_);
    if (waiting_.size() + held_count_ >= options_.max_waiting) return false;
    if (!lane.name.empty()) {
      const LaneId id(lane.is_local, lane.name);
      Lane& of_work =
          lanes_.try_emplace(id, Lane{.is_local = lane.is_local, .held = {}}).first->second;
      work = [this, id, inner = std::move(work)] { RunInLane(id, inner); };
      if (LaneIsFull(of_work)) {
        of_work.held.push_back(std::move(work));
        ++held_count_;
        return true;
      }
      if (!EnqueueInLane(of_work, work)) return false;
    } else if (!Enqueue(std::move(work))) {
      return false;
    }
  }
  work_or_stop_.NotifyOne();  // the lock is not held, because the thread needs it next
  return true;
}

bool WorkerPool::EnqueueInLane(Lane& lane, std::function<void()>& work) {
  if (!Enqueue(std::move(work))) return false;
  ++lane.running;
  ++(lane.is_local ? running_in_local_lanes_ : running_in_other_lanes_);
  return true;
}

bool WorkerPool::Enqueue(std::function<void()> work) {
  bool need_thread = waiting_.size() >= idle_threads_ && threads_ < options_.max_threads;
  if (need_thread && !StartThread() && threads_ == 0) return false;
  waiting_.push_back(std::move(work));
  return true;
}

// Returns the number of threads that lanes of one kind may still take. Neither kind can take all,
// so that calls for local devices never wait for storage nodes, however many of them hang.
uint32_t WorkerPool::LeftFor(bool is_local) const {
  const uint32_t of_kind = is_local ? running_in_local_lanes_ : running_in_other_lanes_;
  const uint32_t running = running_in_local_lanes_ + running_in_other_lanes_;
  return std::min(options_.max_of_kind - of_kind, options_.max_in_lanes - running);
}

// The second limit falls as the threads for lanes are used up, so that many blocked lanes leave
// threads to the next ones (as the dynamic thresholds of switches that share a buffer memory do):
// with a share of 1/8 of 96 threads, the first blocked lane takes 10, the tenth 4, and only the
// 32nd the last one.
bool WorkerPool::LaneIsFull(const Lane& lane) const {
  const uint32_t left = LeftFor(lane.is_local);
  if (left == 0) return true;
  return lane.running >= std::min(options_.max_of_lane, std::max(left / options_.lane_share, 1U));
}

void WorkerPool::RunInLane(const LaneId& id, std::function<void()> work) {
  work();
  work = nullptr;
  bool released = false;
  {
    base::MutexLock lock(mutex_);
    --lanes_.at(id).running;
    --(id.first ? running_in_local_lanes_ : running_in_other_lanes_);
    released = ReleaseHeld();
    auto of_work = lanes_.find(id);
    if (of_work->second.running == 0 && of_work->second.held.empty()) lanes_.erase(of_work);
  }
  if (released) work_or_stop_.NotifyOne();
}

// Starts the next held work item of a lane that has room, from the lane with the fewest running
// items.
bool WorkerPool::ReleaseHeld() {
  if (held_count_ == 0) return false;
  Lane* next = nullptr;
  for (auto& [id, lane] : lanes_) {
    if (lane.held.empty() || LaneIsFull(lane)) continue;
    if (next == nullptr || lane.running < next->running) next = &lane;
  }
  if (next == nullptr || !EnqueueInLane(*next, next->held.front())) return false;
  next->held.pop_front();
  --held_count_;
  return true;
}

uint32_t WorkerPool::thread_count() {
  base::MutexLock lock(mutex_);
  return threads_;
}

// These threads no longer use the pool's members, so joining them does not block for long.
void WorkerPool::JoinEnded() {
  for (pthread_t thread : ended_) pthread_join(thread, nullptr);
  ended_.clear();
}

bool WorkerPool::StartThread() {
  JoinEnded();
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, options_.stack_bytes);
  pthread_t thread;
  int error = pthread_create(&thread, &attributes, &ThreadMain, this);
  pthread_attr_destroy(&attributes);
  if (error != 0) {
    spdlog::error("cannot start a worker thread: {}", strerror(error));
    return false;
  }
  // The thread is counted as idle immediately, so that the next work item does not start another
  // one.
  ++threads_;
  ++idle_threads_;
  return true;
}

void* WorkerPool::ThreadMain(void* pool) {
  pthread_setname_np(pthread_self(), "sma-worker");
  static_cast<WorkerPool*>(pool)->Run();
  return nullptr;
}

void WorkerPool::Run() {
  base::MutexLock lock(mutex_);
  while (true) {
    const auto until = std::chrono::steady_clock::now() + options_.idle_time;
    bool in_time = true;
    while (waiting_.empty() && !stopping_ && in_time)
      in_time = work_or_stop_.WaitUntil(mutex_, until);
    --idle_threads_;
    if (waiting_.empty()) break;
    std::function<void()> work = std::move(waiting_.front());
    waiting_.pop_front();
    mutex_.Unlock();
    work();
    work = nullptr;
    mutex_.Lock();
    ++idle_threads_;
  }
  if (!stopping_) ReturnMemory();
  --threads_;
  JoinEnded();
  // The thread is joined instead of detached, because destructors of thread-local objects must not
  // run while the program is ending.
  ended_.push_back(pthread_self());
  thread_ended_.NotifyAll();
}

// Returns free memory to the system; otherwise the allocator keeps the memory that a burst of calls
// needed. While threads end one after another, this is done at intervals and by the last of them.
void WorkerPool::ReturnMemory() {
  const auto now = std::chrono::steady_clock::now();
  if (threads_ > 1 && now < memory_returned_ + options_.idle_time) return;
  memory_returned_ = now;
  mutex_.Unlock();
  malloc_trim(0);
  mutex_.Lock();
}

}  // namespace sma::service
