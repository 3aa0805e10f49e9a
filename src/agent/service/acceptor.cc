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

constexpr int kPauseMs = 100;          // when nothing can be accepted and there is no reserve
constexpr int64_t kLogPeriodS = 10;    // of refused connections
constexpr int kMaxAcceptsInARow = 64;  // of a listener, before the others have their turn

base::UniqueFd OpenReserve() { return base::UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC)); }

bool IsOutOfResources(int error) {
  return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

}  // namespace

Acceptor::Acceptor(std::vector<base::UniqueFd> listeners, uint32_t max_descriptor, Handler handler)
    : listeners_(std::move(listeners)),
      max_descriptor_(max_descriptor),
      handler_(std::move(handler)),
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
  while (true) {
    if (::poll(fds.data(), fds.size(), -1) < 0) continue;  // EINTR
    if (fds.back().revents != 0) return;
    for (size_t i = 0; i < listeners_.size(); ++i) {
      if (fds[i].revents == 0) continue;
      for (int count = 0; count < kMaxAcceptsInARow && AcceptOne(fds[i].fd); ++count) continue;
    }
  }
}

/// Whether there may be more.
bool Acceptor::AcceptOne(int listener) {
  base::UniqueFd fd(::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (!fd) {
    const int error = errno;
    if (IsOutOfResources(error)) OnError(listener, error);
    // All other errors are those of one connection, or EAGAIN: accept(2), "Error handling".
    return error != EAGAIN && !IsOutOfResources(error);
  }
  if (static_cast<uint32_t>(fd.get()) >= max_descriptor_) {
    fd.Reset();
    OnRefused("the limit of descriptors is near");
    return true;
  }
  int one = 1;  // fails on a Unix socket, which does not need it
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
