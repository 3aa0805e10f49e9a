// SPDX-License-Identifier: Apache-2.0

#include "storage_target/reactor/reactor.h"

#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <future>

#include "base/log.h"
#include "storage_target/reactor/times.h"

namespace sma::storage_target {
namespace {

// While pollers find work, epoll is called only once in this many rounds.
constexpr uint32_t kBusyRoundsPerEpoll = 8;
// A fast disk answers within a few hundred microseconds; sleeping in the meantime would add the
// wake-up time. A slow disk does not answer while the loop spins, but then spinning takes only a
// small part of the time.
constexpr uint64_t kPollFactorForFiles = 20;

thread_local Reactor* current_reactor = nullptr;

uint64_t MonotonicNs() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * kNsPerSecond + static_cast<uint64_t>(now.tv_nsec);
}

base::UniqueFd OrAbort(int fd, const char* what) {
  if (fd < 0) {
    spdlog::critical("{}: {}", what, strerror(errno));
    std::abort();
  }
  return base::UniqueFd(fd);
}

struct PostedTask : Message {
  explicit PostedTask(std::function<void()> t) : Message{.run = Run}, task(std::move(t)) {}
  static void Run(Message& self) {
    std::unique_ptr<PostedTask> owned(static_cast<PostedTask*>(&self));
    owned->task();
  }
  std::function<void()> task;
};

}  // namespace

Reactor::Reactor(const Options& options)
    : options_(options),
      epoll_fd_(OrAbort(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1")),
      wake_fd_(OrAbort(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd")) {
  WatchInternal(wake_fd_.get());
}

std::unique_ptr<Reactor> Reactor::Start(const Options& options) {
  std::unique_ptr<Reactor> reactor(new Reactor(options));
  std::promise<void> started;
  reactor->thread_ = std::thread([r = reactor.get(), &started] {
    ::pthread_setname_np(::pthread_self(), r->options_.name.substr(0, 15).c_str());
    r->BindToThisThread();
    started.set_value();
    r->Run();
    current_reactor = nullptr;
  });
  started.get_future().wait();
  return reactor;
}

std::unique_ptr<Reactor> Reactor::ForThisThread(const Options& options) {
  std::unique_ptr<Reactor> reactor(new Reactor(options));
  reactor->BindToThisThread();
  return reactor;
}

Reactor::~Reactor() {
  Stop();
  if (current_reactor == this) current_reactor = nullptr;
  for (Message* message = messages_.TakeAll(); message != nullptr;) {
    Message* next = message->next;
    if (message->run == PostedTask::Run) delete static_cast<PostedTask*>(message);
    message = next;
  }
}

Reactor* Reactor::Current() { return current_reactor; }

// Runs on the reactor's thread, because an io_uring belongs to the thread that creates it.
void Reactor::BindToThisThread() {
  current_reactor = this;
  tid_ = static_cast<int>(::syscall(SYS_gettid));
  if (options_.cpu >= 0) {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(options_.cpu, &cpus);
    int error = ::pthread_setaffinity_np(::pthread_self(), sizeof cpus, &cpus);
    if (error != 0) spdlog::warn("{}: core {}: {}", options_.name, options_.cpu, strerror(error));
  }
  if (options_.io_uring) file_backend_ = MakeIoUringBackend();
  if (!file_backend_) file_backend_ = MakeThreadPoolBackend();
  WatchInternal(file_backend_->wait_fd());
  now_ns_ = MonotonicNs();
  last_work_ns_ = now_ns_;
  start_ns_ = now_ns_;
}

void Reactor::Post(std::function<void()> task) { Send(*new PostedTask(std::move(task))); }

// Either the loop finds the message in its last check after setting sleeping_, or this call sees
// sleeping_ set and wakes the loop.
void Reactor::Send(Message& message) {
  messages_.Push(message);
  if (sleeping_.load(std::memory_order_seq_cst)) Wake();
}

void Reactor::Wake() {
  if (!sleeping_.exchange(false, std::memory_order_seq_cst)) return;
  uint64_t one = 1;
  [[maybe_unused]] ssize_t written = ::write(wake_fd_.get(), &one, sizeof one);
}

void Reactor::Invoke(const std::function<void()>& task) {
  std::promise<void> ran;
  Post([&] {
    task();
    ran.set_value();
  });
  ran.get_future().wait();
}

void Reactor::RequestStop() {
  stop_.store(true, std::memory_order_seq_cst);
  Wake();
}

void Reactor::Stop() {
  RequestStop();
  if (thread_.joinable()) thread_.join();
}

void Reactor::AddPoller(Poller* poller) {
  pollers_.push_back(poller);
  poller_count_.store(pollers_.size(), std::memory_order_relaxed);
}

// The slot is kept until the iteration over the pollers ends, because this function may be called
// during the iteration.
void Reactor::RemovePoller(Poller* poller) {
  std::replace(pollers_.begin(), pollers_.end(), poller, static_cast<Poller*>(nullptr));
  pollers_have_holes_ = true;
}

// The slot is kept, because this function may be called during the iteration.
void Reactor::RemoveDelayWatch(DelayWatch* watch) {
  std::replace(delay_watches_.begin(), delay_watches_.end(), watch,
               static_cast<DelayWatch*>(nullptr));
}

void Reactor::CheckDelay() {
  if (delay_watches_.empty()) return;
  constexpr auto kLeastNs = static_cast<uint64_t>(std::chrono::nanoseconds(kDelay).count());
  const uint64_t clock_ns = MonotonicNs();
  if (clock_ns - delay_checked_ns_ < kLeastNs) return;
  delay_checked_ns_ = clock_ns;
  for (size_t i = 0; i < delay_watches_.size(); ++i) {
    if (delay_watches_[i] != nullptr) delay_watches_[i]->OnDelay(clock_ns);
  }
  std::erase(delay_watches_, nullptr);
}

Reactor::TimerId Reactor::AddTimer(std::chrono::nanoseconds after, std::function<void()> task) {
  uint64_t after_ns = after.count() > 0 ? static_cast<uint64_t>(after.count()) : 0;
  TimerId id = timers_.Add(now_ns_ + after_ns, std::move(task));
  timer_count_.store(timers_.size(), std::memory_order_relaxed);
  return id;
}

void Reactor::CancelTimer(TimerId id) {
  timers_.Cancel(id);
  timer_count_.store(timers_.size(), std::memory_order_relaxed);
}

void Reactor::Run() {
  while (!stop_.load(std::memory_order_relaxed)) Step(kForever);
  while (RunMessages()) {
  }
}

bool Reactor::RunUntil(const std::function<bool()>& done, std::chrono::nanoseconds timeout) {
  const uint64_t until_ns = MonotonicNs() + static_cast<uint64_t>(timeout.count());
  while (!done()) {
    if (now_ns_ >= until_ns) return false;
    Step(std::min(until_ns, now_ns_ + kNsPerMs));
  }
  return true;
}

void Reactor::Step(uint64_t until_ns) {
  auto poll_ns = static_cast<uint64_t>(std::chrono::nanoseconds(options_.poll).count());
  if (file_ops_ != 0) poll_ns *= kPollFactorForFiles;
  bool woken = now_ns_ - last_work_ns_ >= poll_ns && Sleep(until_ns);
  bool busy = Round(!woken) || woken;
  UpdateClock(busy);
  if (busy) last_work_ns_ = now_ns_;
}

bool Reactor::Round(bool ask_epoll) {
  bool busy = RunMessages();
  bool pollers_busy = RunPollers();
  if (ReapFileOps()) busy = true;
  if (pollers_busy && ++rounds_without_epoll_ < kBusyRoundsPerEpoll) ask_epoll = false;
  if (ask_epoll) {
    rounds_without_epoll_ = 0;
    if (WaitForEvents(0)) busy = true;
  }
  if (now_ns_ >= timers_.next_due_ns()) {
    timers_.RunDue(now_ns_, [this] { CheckDelay(); });
    timer_count_.store(timers_.size(), std::memory_order_relaxed);
  }
  if (RunDeferred()) busy = true;
  if (!file_backend_->Flush()) busy = true;
  return busy || pollers_busy;
}

// Reads the clock for the next round and accounts the time since the last reading as busy or idle.
void Reactor::UpdateClock(bool busy) {
  uint64_t now = MonotonicNs();
  if (busy) {
    busy_ns_.store(busy_ns_.load(std::memory_order_relaxed) + (now - now_ns_),
                   std::memory_order_relaxed);
  }
  now_ns_ = now;
}

uint64_t Reactor::idle_ns() const {
  return MonotonicNs() - start_ns_.load(std::memory_order_relaxed) - busy_ns();
}

bool Reactor::RunMessages() {
  if (messages_.empty()) return false;
  Message* message = messages_.TakeAll();
  while (message != nullptr) {
    CheckDelay();
    Message* next = message->next;
    message->run(*message);
    message = next;
  }
  return true;
}

bool Reactor::RunPollers() {
  bool busy = false;
  for (size_t i = 0; i < pollers_.size(); ++i) {
    if (pollers_[i] != nullptr && pollers_[i]->Poll()) busy = true;
  }
  if (pollers_have_holes_) {
    std::erase(pollers_, nullptr);
    poller_count_.store(pollers_.size(), std::memory_order_relaxed);
    pollers_have_holes_ = false;
  }
  return busy;
}

bool Reactor::ReapFileOps() {
  if (file_ops_ != 0) CheckDelay();
  size_t count = file_backend_->Reap();
  file_ops_ -= count;
  return count != 0;
}

// Runs the deferred work. Work that runs may cancel or destroy work that has not run yet.
bool Reactor::RunDeferred() {
  if (deferred_.empty()) return false;
  CheckDelay();
  DeferredList present;
  present.Take(deferred_);
  while (!present.empty()) {
    Deferred& deferred = present.TakeFirst();
    deferred.run(deferred);
  }
  return true;
}

}  // namespace sma::storage_target
