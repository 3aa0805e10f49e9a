// SPDX-License-Identifier: Apache-2.0

#include "agent/qmp/address.h"

#include <fmt/format.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include "absl/status/status.h"

namespace sma::qmp {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// A listener whose queue is full does not refuse connections: a Unix socket returns EAGAIN, and a
// TCP socket ETIMEDOUT.
absl::Status ConnectError(int error) {
  const bool is_refused = error == ECONNREFUSED || error == ENOENT;
  return absl::Status(is_refused ? absl::StatusCode::kNotFound : absl::StatusCode::kUnavailable,
                      std::strerror(error));
}

absl::Status WaitConnected(int fd, base::TimePoint until, int interrupt) {
  while (true) {
    const auto left = std::chrono::ceil<milliseconds>(until - steady_clock::now());
    if (left.count() <= 0) return ConnectError(ETIMEDOUT);
    pollfd fds[2] = {{fd, POLLOUT, 0}, {interrupt, POLLIN, 0}};
    const int ready =
        ::poll(fds, 2, static_cast<int>(std::min(left, milliseconds(60'000)).count()));
    if (ready < 0 && errno != EINTR) return absl::ErrnoToStatus(errno, "poll");
    if (ready <= 0) continue;
    if (fds[1].revents != 0) return absl::CancelledError("interrupted");
    int error = 0;
    socklen_t size = sizeof(error);
    if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
    return error == 0 ? absl::OkStatus() : ConnectError(error);
  }
}

absl::StatusOr<base::UniqueFd> ConnectSocket(const sockaddr* address, socklen_t size,
                                             base::TimePoint until, int interrupt) {
  base::UniqueFd fd(::socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return absl::ErrnoToStatus(errno, "socket");
  if (::connect(fd.get(), address, size) == 0) return fd;
  if (errno != EINPROGRESS) return ConnectError(errno);
  if (absl::Status status = WaitConnected(fd.get(), until, interrupt); !status.ok()) return status;
  return fd;
}

absl::StatusOr<base::UniqueFd> ConnectUnix(const std::string& path, base::TimePoint until,
                                           int interrupt) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) return absl::InvalidArgumentError("path too long");
  std::memcpy(address.sun_path, path.data(), path.size());
  return ConnectSocket(reinterpret_cast<const sockaddr*>(&address), sizeof(address), until,
                       interrupt);
}

}  // namespace

std::string Address::ToString() const {
  if (!path.empty()) return "unix:" + path;
  const bool is_v6 = host.find(':') != std::string::npos;
  return fmt::format("{}{}{}:{}", is_v6 ? "[" : "", host, is_v6 ? "]" : "", port);
}

absl::StatusOr<base::UniqueFd> Connect(const Address& address, base::TimePoint until,
                                       int interrupt) {
  if (!address.path.empty()) return ConnectUnix(address.path, until, interrupt);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error =
      ::getaddrinfo(address.host.c_str(), std::to_string(address.port).c_str(), &hints, &found);
  if (error != 0) return absl::UnavailableError(::gai_strerror(error));
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, ::freeaddrinfo);
  absl::Status failure;
  for (const addrinfo* entry = found; entry != nullptr; entry = entry->ai_next) {
    auto fd = ConnectSocket(entry->ai_addr, entry->ai_addrlen, until, interrupt);
    if (fd.ok()) {
      const int on = 1;
      ::setsockopt(fd->get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
      return fd;
    }
    // If any address does not refuse the connection, QEMU may be running there.
    if (failure.ok() || absl::IsNotFound(failure)) failure = fd.status();
  }
  return failure.ok() ? absl::UnavailableError("no address") : failure;
}

}  // namespace sma::qmp
