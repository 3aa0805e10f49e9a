// SPDX-License-Identifier: Apache-2.0

#include "agent/probe/timed_socket.h"

#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <memory>

namespace sma::probe {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

TimedSocket::TimedSocket(const std::string& ip, const std::string& port, base::TimePoint deadline)
    : deadline_(deadline) {
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(ip.c_str(), port.c_str(), &hints, &found) != 0) return;
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, ::freeaddrinfo);
  fd_.Reset(::socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));
  if (!fd_.valid()) return;
  if (::connect(fd_.get(), found->ai_addr, found->ai_addrlen) == 0) return;
  int error = errno;
  socklen_t size = sizeof(error);
  const bool is_under_way = error == EINPROGRESS && Wait(POLLOUT) != 0;
  if (!is_under_way || ::getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &size) != 0 ||
      error != 0) {
    fd_.Reset();
  }
}

short TimedSocket::Wait(short events) const {
  while (true) {
    const auto left = std::chrono::ceil<milliseconds>(deadline_ - steady_clock::now());
    if (left.count() <= 0) return 0;
    pollfd state{.fd = fd_.get(), .events = events, .revents = 0};
    const int ready =
        ::poll(&state, 1, static_cast<int>(std::min(left, milliseconds(60'000)).count()));
    if (ready > 0) return state.revents;
    if (ready < 0 && errno != EINTR) return 0;
  }
}

template <typename Byte>
bool TimedSocket::Transfer(Byte* next, size_t size, short event,
                           ssize_t (*transfer)(int fd, Byte* next, size_t size)) {
  while (size > 0) {
    const ssize_t done = transfer(fd_.get(), next, size);
    if (done > 0) {
      next += done;
      size -= static_cast<size_t>(done);
    } else if (done == 0 || (errno != EAGAIN && errno != EINTR) ||
               (errno == EAGAIN && Wait(event) == 0)) {
      return false;
    }
  }
  return true;
}

bool TimedSocket::Send(const void* data, size_t size) {
  return Transfer<const char>(
      static_cast<const char*>(data), size, POLLOUT,
      [](int fd, const char* next, size_t left) { return ::send(fd, next, left, MSG_NOSIGNAL); });
}

bool TimedSocket::Receive(void* data, size_t size) {
  return Transfer<char>(static_cast<char*>(data), size, POLLIN,
                        [](int fd, char* next, size_t left) { return ::recv(fd, next, left, 0); });
}

}  // namespace sma::probe
