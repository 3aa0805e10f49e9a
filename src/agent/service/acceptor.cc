// SPDX-License-Identifier: Apache-2.0

#include "agent/service/acceptor.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

namespace sma::service {
namespace {

constexpr int kPauseMs = 100;        // pause if nothing can be accepted and the reserve is used up
constexpr int64_t kLogPeriodS = 10;  // minimum time between log lines about refused connections
// The maximum number of connections accepted from one listener before the others are served.
constexpr int kMaxAcceptsInARow = 64;

base::UniqueFd OpenReserve() { return base::UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC)); }

bool IsOutOfResources(int error) {
  return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

}  // namespace

Acceptor::Acceptor(std::vector<base::UniqueFd> listeners, uint32_t max_descriptor, Handler handler,
                   std::chrono::milliseconds period, std::function<void()> housekeeping)
    : listeners_(std::move(listeners)),
      max_descriptor_(max_descriptor),
      handler_(std::move(handler)),
      period_(period),
      housekeeping_(std::move(housekeeping)),
      stop_event_(::eventfd(0, EFD_CLOEXEC)),
      reserve_(OpenReserve()),
      thread_([this] { Run(); }) {}

Acceptor::~Acceptor() {
  ::eventfd_write(stop_event_.get(), 1);
  thread_.join();
}

void Acceptor::Run() {
  ::pthread_setname_np(::pthread_self(), "sma-accept");
  std::vector<pollfd> fds;
  for (const base::UniqueFd& listener : listeners_) fds.push_back({listener.get(), POLLIN, 0});
  fds.push_back({stop_event_.get(), POLLIN, 0});
  auto next = std::chrono::steady_clock::now() + period_;
  while (true) {
    if (std::chrono::steady_clock::now() >= next) {
      housekeeping_();
      next = std::chrono::steady_clock::now() + period_;
    }
    if (::poll(fds.data(), fds.size(), static_cast<int>(period_.count())) < 0) continue;  // EINTR
    if (fds.back().revents != 0) return;
    for (size_t i = 0; i < listeners_.size(); ++i) {
      if (fds[i].revents == 0) continue;
      for (int count = 0; count < kMaxAcceptsInARow && AcceptOne(fds[i].fd); ++count) continue;
    }
  }
}

/// Returns true if more connections may be pending.
bool Acceptor::AcceptOne(int listener) {
  base::UniqueFd fd(::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (!fd) {
    const int error = errno;
    if (IsOutOfResources(error)) OnError(listener, error);
    // All other errors concern a single connection, or are EAGAIN: accept(2), "Error handling".
    return error != EAGAIN && !IsOutOfResources(error);
  }
  if (static_cast<uint32_t>(fd.get()) >= max_descriptor_) {
    fd.Reset();
    OnRefused("the descriptor limit is almost reached");
    return true;
  }
  int one = 1;  // fails on a Unix socket, which has no Nagle delay
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
  handler_(listener, std::move(fd));
  return true;
}

void Acceptor::OnError(int listener, int error) {
  OnRefused(std::strerror(error));
  if (reserve_) {
    reserve_.Reset();
    base::UniqueFd(::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  } else {
    pollfd stop{stop_event_.get(), POLLIN, 0};
    ::poll(&stop, 1, kPauseMs);
  }
  reserve_ = OpenReserve();
}

void Acceptor::OnRefused(const char* reason) {
  ++refused_;
  const int64_t now = std::chrono::duration_cast<std::chrono::seconds>(
                          std::chrono::steady_clock::now().time_since_epoch())
                          .count();
  if (now < next_log_s_) return;
  next_log_s_ = now + kLogPeriodS;
  spdlog::warn("gRPC: {} connections refused since the start: {}", refused_, reason);
}

}  // namespace sma::service
