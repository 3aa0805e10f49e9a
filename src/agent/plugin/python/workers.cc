// SPDX-License-Identifier: Apache-2.0

#include "agent/plugin/python/workers.h"

#include <pthread.h>
#include <pybind11/pybind11.h>
#include <sched.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>
#include <utility>

#include "jsonrpc/error.h"

namespace sma::python {

using base::MutexLock;

namespace {

constexpr int kMaxThreads = 64;          // in addition to those that hang
constexpr int kMaxGivenUpOfPlugin = 16;  // limits the memory lost to a hung plugin
// Nice value of the threads relative to the agent's (setpriority(2)): when the CPUs are busy, a
// thread of the agent gets nine times as much CPU time as one of these.
constexpr int kNice = 10;

// Plugins run only in these threads, and must not slow down the rest of the agent. With
// SCHED_BATCH, a thread that becomes runnable never preempts a running one (sched(7)).
void LowerPriority() {
  pthread_setname_np(pthread_self(), "sma-python");
  const sched_param no_priority{};
  const id_t thread = static_cast<id_t>(gettid());
  errno = 0;
  const int nice = getpriority(PRIO_PROCESS, thread);
  if (errno != 0 || sched_setscheduler(0, SCHED_BATCH, &no_priority) != 0 ||
      setpriority(PRIO_PROCESS, thread, nice + kNice) != 0) {
    spdlog::warn("threads of Python plugins run at the agent's priority: {}", strerror(errno));
  }
}

}  // namespace

absl::Status Workers::Run(const base::Context& context, const std::shared_ptr<GivenUp>& given_up,
                          std::function<void()> work) {
  auto task = std::make_shared<Task>();
  task->work = std::move(work);
  task->objects = jsonrpc::CallScope::Current();
  task->given_up_calls = given_up;
  uint64_t callback = context.AddCallback([this, task] {
    MutexLock lock(mutex_);
    task->changed.NotifyAll();
  });
  absl::Status status;
  {
    MutexLock lock(mutex_);
    if (given_up->count >= kMaxGivenUpOfPlugin) {
      status = absl::UnavailableError("too many calls to the plugin are hanging");
    } else {
      queue_.push_back(task);
      StartThreadIfNeeded();
      queued_.NotifyOne();
      status = Wait(context, *task);
    }
  }
  context.RemoveCallback(callback);
  return status;
}

absl::Status Workers::Wait(const base::Context& context, Task& task) {
  absl::Status status;
  while (!task.done && (status = context.status()).ok()) {
    task.changed.WaitUntil(mutex_, context.deadline());
  }
  if (task.done) return absl::OkStatus();
  if (!task.begun) {
    std::erase_if(queue_,
                  [&](const std::shared_ptr<Task>& queued) { return queued.get() == &task; });
    return status;
  }
  task.given_up = true;
  ++task.given_up_calls->count;
  ++given_up_;
  return jsonrpc::WithFateUnknown(std::move(status));
}

void Workers::StartThreadIfNeeded() {
  if (static_cast<int>(queue_.size()) <= idle_ || threads_ - given_up_ >= kMaxThreads) return;
  ++threads_;
  std::thread([this] { RunTasks(); }).detach();
}

void Workers::RunTasks() {
  LowerPriority();
  // Creates the interpreter's state for this thread only once.
  pybind11::gil_scoped_acquire state;
  pybind11::gil_scoped_release release;
  while (true) {
    std::shared_ptr<Task> task;
    {
      MutexLock lock(mutex_);
      ++idle_;
      while (queue_.empty()) queued_.Wait(mutex_);
      --idle_;
      task = std::move(queue_.front());
      queue_.pop_front();
      task->begun = true;
    }
    {
      const jsonrpc::CallScope scope(task->objects);
      task->work();
    }
    task->work = nullptr;
    MutexLock lock(mutex_);
    task->done = true;
    if (task->given_up) {
      --task->given_up_calls->count;
      --given_up_;
    }
    task->changed.NotifyAll();
  }
}

}  // namespace sma::python
