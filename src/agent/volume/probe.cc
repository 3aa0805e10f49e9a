// SPDX-License-Identifier: Apache-2.0

#include "agent/volume/probe.h"

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/types.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>

#include "base/unique_fd.h"
#include "base/uuid.h"

namespace sma::volume {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kProbeTime{1000};

std::string Words(int error) {
  if (error == ECONNREFUSED) return kRefused;
  if (error == ETIMEDOUT) return "nobody answers";
  return strerrordesc_np(error);
}

milliseconds TimeFor(const base::Context& context) {
  if (context.deadline() == base::TimePoint::max()) return kProbeTime;
  const auto left = std::chrono::duration_cast<milliseconds>(context.deadline() -
                                                             std::chrono::steady_clock::now());
  return std::clamp(left / 2, milliseconds(0), kProbeTime);
}

int ConnectError(const addrinfo& address, milliseconds time) {
  const base::UniqueFd socket(
      ::socket(address.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));
  if (!socket.valid()) return errno;
  if (connect(socket.get(), address.ai_addr, address.ai_addrlen) == 0) return 0;
  if (errno != EINPROGRESS) return errno;
  pollfd events{.fd = socket.get(), .events = POLLOUT, .revents = 0};
  if (poll(&events, 1, static_cast<int>(time.count())) <= 0) return ETIMEDOUT;
  int error = 0;
  socklen_t size = sizeof(error);
  getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &size);
  return error;
}

}  // namespace

base::TimePoint ProbeEnd(const base::Context& context) {
  return std::chrono::steady_clock::now() + TimeFor(context);
}

std::string ProbeHost(const std::string& hostnqn) {
  if (!hostnqn.empty()) return hostnqn;
  return "nqn.2014-08.org.nvmexpress:uuid:" + base::Uuid::Random().ToString();
}

std::string WhyUnreachable(const base::Context& context, const std::string& ip,
                           const std::string& port) {
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(ip.c_str(), port.c_str(), &hints, &found) != 0)
    return "the target tells no reason";
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, freeaddrinfo);
  const int error = ConnectError(*found, TimeFor(context));
  return error == 0 ? "" : Words(error);
}

}  // namespace sma::volume
