// SPDX-License-Identifier: Apache-2.0

#include "storage_target/virtio/blocked_write_watch.h"

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace sma::storage_target::virtio {
namespace {

constexpr int kSignal = SIGURG;  // ignored by default, so a late signal is harmless
constexpr int kTicksToRest = 50;

void OnSignal(int /*signal*/) {}

}  // namespace

// Removes a thread's calls from the list when the thread ends.
struct BlockedWriteWatch::Registration {
  explicit Registration(BlockedWriteWatch& owner) : watch(owner) {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, kSignal);
    ::pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
    auto made = std::unique_ptr<Calls>(new Calls(watch, static_cast<pid_t>(::syscall(SYS_gettid))));
    calls = made.get();
    base::MutexLock lock(watch.mutex_);
    watch.calls_.push_back(std::move(made));
  }
  ~Registration() {
    base::MutexLock lock(watch.mutex_);
    std::erase_if(watch.calls_, [this](const auto& other) { return other.get() == calls; });
  }
  Registration(const Registration&) = delete;
  Registration& operator=(const Registration&) = delete;

  BlockedWriteWatch& watch;
  Calls* calls;
};

// The handler is installed without SA_RESTART, so that the signal ends the system call.
BlockedWriteWatch::BlockedWriteWatch() {
  struct sigaction action {};
  action.sa_handler = OnSignal;
  sigemptyset(&action.sa_mask);
  ::sigaction(kSignal, &action, nullptr);
  thread_ = std::thread([this] { Run(); });
  ::pthread_setname_np(thread_.native_handle(), "write-watch");
}

// The instance is never destroyed, because threads may outlive static objects.
BlockedWriteWatch& BlockedWriteWatch::Instance() {
  static auto* watch = new BlockedWriteWatch;
  return *watch;
}

BlockedWriteWatch::Calls& BlockedWriteWatch::ForThisThread() {
  thread_local Registration registration(Instance());
  return *registration.calls;
}

void BlockedWriteWatch::Run() {
  int quiet_ticks = 0;
  while (true) {
    quiet_ticks = InterruptBlocked() ? 0 : quiet_ticks + 1;
    if (quiet_ticks < kTicksToRest) {
      std::this_thread::sleep_for(kTick);
      continue;
    }
    // This check finds a call that began before it could see `resting_`.
    resting_.store(1, std::memory_order_seq_cst);
    if (InterruptBlocked()) {
      resting_.store(0, std::memory_order_relaxed);
    } else {
      resting_.wait(1);
    }
    quiet_ticks = 0;
  }
}

// Interrupts each thread that is in the same call as during the last check. Returns true if there
// were calls since then.
bool BlockedWriteWatch::InterruptBlocked() {
  bool any = false;
  base::MutexLock lock(mutex_);
  for (const auto& calls : calls_) {
    const uint64_t count = calls->count_.load(std::memory_order_seq_cst);
    if (count == calls->seen_ && count % 2 == 0) continue;
    any = true;
    if (count == calls->seen_) ::syscall(SYS_tgkill, ::getpid(), calls->tid_, kSignal);
    calls->seen_ = count;
  }
  return any;
}

void BlockedWriteWatch::Wake() {
  resting_.store(0, std::memory_order_relaxed);
  resting_.notify_one();
}

}  // namespace sma::storage_target::virtio
