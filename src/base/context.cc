// SPDX-License-Identifier: Apache-2.0

#include "base/context.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <thread>
#include <utility>

#include "base/mutex.h"

namespace sma::base {

struct Context::State {
  explicit State(TimePoint d) : deadline(d) {}
  ~State() {
    if (parent) Context(parent).RemoveCallback(parent_callback);
  }

  const TimePoint deadline;
  std::shared_ptr<State> parent;
  uint64_t parent_callback = 0;

  std::atomic<bool> cut_short = false;
  Mutex mutex;
  CondVar changed;
  bool cancelled SMA_GUARDED_BY(mutex) = false;
  uint64_t next_id SMA_GUARDED_BY(mutex) = 1;
  uint64_t running_id SMA_GUARDED_BY(mutex) = 0;
  std::thread::id running_thread SMA_GUARDED_BY(mutex);
  std::map<uint64_t, std::function<void()>> callbacks SMA_GUARDED_BY(mutex);
};

Context Context::Background() { return WithDeadline(TimePoint::max()); }

Context Context::WithDeadline(TimePoint deadline) {
  return Context(std::make_shared<State>(deadline));
}

Context Context::WithTimeout(std::chrono::nanoseconds timeout) {
  TimePoint now = std::chrono::steady_clock::now();
  if (timeout >= TimePoint::max() - now) return Background();
  return WithDeadline(now + timeout);
}

Context Context::Child(TimePoint deadline) const {
  auto child = std::make_shared<State>(std::min(deadline, state_->deadline));
  std::weak_ptr<State> weak = child;
  child->parent_callback = AddCallback([weak] {
    if (std::shared_ptr<State> state = weak.lock()) Context(state).Cancel();
  });
  child->parent = state_;
  return Context(child);
}

TimePoint Context::deadline() const { return state_->deadline; }

absl::Status Context::status() const {
  {
    MutexLock lock(state_->mutex);
    if (state_->cancelled) return absl::CancelledError("the caller cancelled the call");
  }
  if (std::chrono::steady_clock::now() >= state_->deadline) {
    return absl::DeadlineExceededError("the deadline of the call has passed");
  }
  return absl::OkStatus();
}

void Context::NoteCutShort() const {
  for (State* state = state_.get(); state != nullptr; state = state->parent.get()) {
    if (state->deadline != state_->deadline) return;
    state->cut_short = true;
  }
}

bool Context::IsCutShort() const {
  return state_->cut_short || std::chrono::steady_clock::now() >= state_->deadline;
}

void Context::Cancel() const {
  std::shared_ptr<State> state = state_;
  state->mutex.Lock();
  if (state->cancelled) {
    state->mutex.Unlock();
    return;
  }
  state->cancelled = true;
  state->changed.NotifyAll();
  while (!state->callbacks.empty()) {
    auto node = state->callbacks.extract(state->callbacks.begin());
    state->running_id = node.key();
    state->running_thread = std::this_thread::get_id();
    state->mutex.Unlock();
    node.mapped()();
    node.mapped() = nullptr;
    state->mutex.Lock();
    state->running_id = 0;
    state->changed.NotifyAll();
  }
  state->mutex.Unlock();
}

uint64_t Context::AddCallback(std::function<void()> callback) const {
  {
    MutexLock lock(state_->mutex);
    if (!state_->cancelled) {
      uint64_t id = state_->next_id++;
      state_->callbacks.emplace(id, std::move(callback));
      return id;
    }
  }
  callback();
  return 0;
}

void Context::RemoveCallback(uint64_t id) const {
  MutexLock lock(state_->mutex);
  state_->callbacks.erase(id);
  while (id != 0 && state_->running_id == id &&
         state_->running_thread != std::this_thread::get_id()) {
    state_->changed.Wait(state_->mutex);
  }
}

absl::Status Context::SleepUntil(TimePoint when) const {
  {
    MutexLock lock(state_->mutex);
    TimePoint until = std::min(when, state_->deadline);
    while (!state_->cancelled && std::chrono::steady_clock::now() < until) {
      state_->changed.WaitUntil(state_->mutex, until);
    }
  }
  return status();
}

}  // namespace sma::base
