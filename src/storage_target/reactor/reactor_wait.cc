// SPDX-License-Identifier: Apache-2.0

// How the loop waits: epoll, sleeping and waking up.

#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <span>

#include "base/log.h"
#include "storage_target/reactor/reactor.h"
#include "storage_target/reactor/times.h"

namespace sma::storage_target {
namespace {

// The tag of an epoll event is the generation and number of the watched descriptor, or this value
// for the loop's own descriptors, after which messages and file operations are checked.
constexpr uint64_t kInternalTag = UINT64_MAX;
constexpr size_t kEventsPerWait = 64;

uint64_t Tag(int fd, uint32_t generation) {
  return uint64_t{generation} << 32 | static_cast<uint32_t>(fd);
}

int WaitForEpoll(int epoll_fd, std::span<epoll_event> events, uint64_t timeout_ns) {
  int capacity = static_cast<int>(events.size());
  if (timeout_ns == 0) return ::epoll_wait(epoll_fd, events.data(), capacity, 0);
  timespec timeout{.tv_sec = static_cast<time_t>(timeout_ns / kNsPerSecond),
                   .tv_nsec = static_cast<long>(timeout_ns % kNsPerSecond)};
  int count = ::epoll_pwait2(epoll_fd, events.data(), capacity,
                             timeout_ns == kForever ? nullptr : &timeout, nullptr);
  if (count >= 0 || errno != ENOSYS) return count;
  // Used for kernels before 5.11.
  int timeout_ms = -1;
  if (timeout_ns != kForever) {
    timeout_ms = static_cast<int>(std::min<uint64_t>(timeout_ns / kNsPerMs + 1, 1'000'000));
  }
  return ::epoll_wait(epoll_fd, events.data(), capacity, timeout_ms);
}

}  // namespace

// Edge-triggered, so that nothing has to be read from it.
void Reactor::WatchInternal(int fd) {
  epoll_event event{.events = EPOLLIN | EPOLLET, .data = {.u64 = kInternalTag}};
  if (::epoll_ctl(epoll_fd_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    spdlog::critical("epoll_ctl: {}", strerror(errno));
    std::abort();
  }
}

int Reactor::Watch(int fd, uint32_t events, FdHandler* handler) {
  if (fd < 0) return -EBADF;
  auto index = static_cast<size_t>(fd);
  if (index >= watched_.size()) watched_.resize(index + 1);
  Watched& watched = watched_[index];
  epoll_event event{.events = events, .data = {.u64 = Tag(fd, watched.generation)}};
  if (::epoll_ctl(epoll_fd_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return -errno;
  watched.handler = handler;
  return 0;
}

int Reactor::ModifyWatch(int fd, uint32_t events) {
  auto index = static_cast<size_t>(fd);
  if (fd < 0 || index >= watched_.size() || watched_[index].handler == nullptr) return -ENOENT;
  epoll_event event{.events = events, .data = {.u64 = Tag(fd, watched_[index].generation)}};
  return ::epoll_ctl(epoll_fd_.get(), EPOLL_CTL_MOD, fd, &event) == 0 ? 0 : -errno;
}

void Reactor::Unwatch(int fd) {
  auto index = static_cast<size_t>(fd);
  if (fd < 0 || index >= watched_.size() || watched_[index].handler == nullptr) return;
  watched_[index].handler = nullptr;
  ++watched_[index].generation;
  ::epoll_ctl(epoll_fd_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

bool Reactor::WaitForEvents(uint64_t timeout_ns) {
  std::array<epoll_event, kEventsPerWait> events;
  int count = WaitForEpoll(epoll_fd_.get(), events, timeout_ns);
  if (timeout_ns != 0) EndSleep();
  if (count > 0) CheckDelay();
  for (int i = 0; i < count; ++i) {
    const epoll_event& event = events[static_cast<size_t>(i)];
    if (event.data.u64 == kInternalTag) continue;
    // Copied, because handlers may make the table grow.
    const Watched watched = watched_[static_cast<uint32_t>(event.data.u64)];
    if (watched.handler != nullptr && watched.generation == event.data.u64 >> 32) {
      watched.handler->OnFdReady(event.events);
    }
  }
  return count > 0;
}

// Sleeps until a descriptor is ready and calls its handler. Returns false if it did not sleep or
// nothing was ready.
bool Reactor::Sleep(uint64_t until_ns) {
  if (!deferred_.empty()) return false;
  prepared_pollers_ = 0;
  sleeping_.store(true, std::memory_order_seq_cst);
  uint64_t wake_ns = std::min(until_ns, timers_.next_due_ns());
  if (messages_.empty() && !stop_.load(std::memory_order_seq_cst) && PreparePollers() &&
      wake_ns > now_ns_) {
    return WaitForEvents(wake_ns == kForever ? kForever : wake_ns - now_ns_);
  }
  EndSleep();
  return false;
}

bool Reactor::PreparePollers() {
  for (Poller* poller : pollers_) {
    ++prepared_pollers_;
    if (poller != nullptr && !poller->PrepareSleep()) return false;
  }
  return true;
}

void Reactor::EndSleep() {
  sleeping_.store(false, std::memory_order_seq_cst);
  for (size_t i = 0; i < prepared_pollers_; ++i) {
    if (pollers_[i] != nullptr) pollers_[i]->AfterSleep();
  }
  UpdateClock(false);
}

}  // namespace sma::storage_target
