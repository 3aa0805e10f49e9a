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

constexpr int kMaxThreads = 64;          // beside those that hang
constexpr int kMaxGivenUpOfPlugin = 16;  // so much memory at most is lost to one that hangs
// How much nicer the threads are than the agent's own (setpriority(2)): where there are too few
// processors a thread of the agent's gets nine times the time of one of these.
constexpr int kNice = 10;

// Plugins compute in these threads only: they wait for the rest of the agent, and not it for them.
// SCHED_BATCH: one that becomes ready never interrupts a thread that runs (sched(7)).
void GiveWay() {
  pthread_setname_np(pthread_self(), "sma-python");
  const sched_param no_priority{};
  const id_t thread = static_cast<id_t>(gettid());
  errno = 0;
  const int nice = getpriority(PRIO_PROCESS, thread);
  if (errno != 0 || sched_setscheduler(0, SCHED_BATCH, &no_priority) != 0 ||
      setpriority(PRIO_PROCESS, thread, nice + kNice) != 0) {
    spdlog::warn("threads of Python plugins have the agent's own priority: {}", strerror(errno));
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
      status = absl::UnavailableError("too many calls of the plugin hang");
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
  GiveWay();
  // The interpreter's state of this thread is made once.
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
