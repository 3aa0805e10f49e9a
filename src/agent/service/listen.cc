// SPDX-License-Identifier: Apache-2.0

#include "agent/service/listen.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string_view>

namespace sma::service {
namespace {

constexpr std::string_view kUnix = "unix:";

absl::Status ErrnoError(int error, const std::string& address) {
  std::string message = fmt::format("cannot listen on {}: {}", address, strerror(error));
  if (error == EADDRINUSE) return absl::AlreadyExistsError(message);
  return absl::Status(absl::ErrnoToStatusCode(error), message);
}

/// Restricts the permissions of Unix sockets created during its lifetime to the owner.
class PrivateUmask {
 public:
  PrivateUmask() : before_(::umask(0077)) {}
  ~PrivateUmask() { ::umask(before_); }
  PrivateUmask(const PrivateUmask&) = delete;
  PrivateUmask& operator=(const PrivateUmask&) = delete;

 private:
  const mode_t before_;
};

/// Removes the socket of a server that no longer runs; keeps the socket of a running one.
absl::StatusOr<ListenAddresses> ReserveUnix(const std::string& address) {
  std::string path = address.substr(kUnix.size());
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(name.sun_path)) {
    return absl::InvalidArgumentError(
        fmt::format("'{}' is not a valid path for a Unix socket", path));
  }
  std::copy(path.begin(), path.end(), name.sun_path);
  const auto* generic_name = reinterpret_cast<const sockaddr*>(&name);

  struct stat status;
  const bool exists = lstat(path.c_str(), &status) == 0;
  if (exists && !S_ISSOCK(status.st_mode)) {
    return absl::AlreadyExistsError(
        fmt::format("cannot listen on {}: the path exists and is not a socket", address));
  }
  base::UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return ErrnoError(errno, address);
  if (::connect(fd.get(), generic_name, sizeof(name)) == 0) return ErrnoError(EADDRINUSE, address);
  if (exists) ::unlink(path.c_str());
  {
    PrivateUmask umask;
    fd.Reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!fd || ::bind(fd.get(), generic_name, sizeof(name)) != 0) return ErrnoError(errno, address);
  }
  ListenAddresses result;
  result.addresses.push_back(address);
  result.reserved.push_back(std::move(fd));
  result.unix_path = std::move(path);
  return result;
}

bool IsLoopback(const sockaddr& address) {
  if (address.sa_family == AF_INET) {
    const auto& ipv4 = reinterpret_cast<const sockaddr_in&>(address);
    return (ntohl(ipv4.sin_addr.s_addr) >> 24) == IN_LOOPBACKNET;
  }
  return IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<const sockaddr_in6&>(address).sin6_addr);
}

std::string ToText(const sockaddr& address, socklen_t length, uint16_t port) {
  char host[NI_MAXHOST] = "";
  getnameinfo(&address, length, host, sizeof(host), nullptr, 0, NI_NUMERICHOST);
  return address.sa_family == AF_INET6 ? fmt::format("[{}]:{}", host, port)
                                       : fmt::format("{}:{}", host, port);
}

/// Binds one address to `port`, or to a free port if it is 0, which is then stored there. Returns
/// an errno value; 0 on success.
int Reserve(const addrinfo& info, uint16_t& port, base::UniqueFd& fd) {
  fd.Reset(::socket(info.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return errno;
  int one = 1;
  if (setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0) return errno;
  sockaddr_storage address{};
  std::memcpy(&address, info.ai_addr, info.ai_addrlen);
  // The port has the same offset in both address families.
  reinterpret_cast<sockaddr_in&>(address).sin_port = htons(port);
  socklen_t length = info.ai_addrlen;
  if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), length) != 0) return errno;
  if (::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0) return errno;
  port = ntohs(reinterpret_cast<sockaddr_in&>(address).sin_port);
  return 0;
}

bool IsMissingHere(int error) {
  return error == EADDRNOTAVAIL || error == EAFNOSUPPORT || error == ENODEV;
}

}  // namespace

absl::StatusOr<ListenAddresses> ReserveListenAddresses(const std::string& address, uint16_t port) {
  if (address.starts_with(kUnix)) return ReserveUnix(address);

  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  if (int error = getaddrinfo(address.c_str(), nullptr, &hints, &found); error != 0) {
    return absl::InvalidArgumentError(
        fmt::format("cannot listen on '{}': {}", address, gai_strerror(error)));
  }
  std::unique_ptr<addrinfo, void (*)(addrinfo*)> list(found, freeaddrinfo);

  ListenAddresses result;
  result.port = port;
  absl::Status missing;
  for (const addrinfo* info = list.get(); info != nullptr; info = info->ai_next) {
    if (info->ai_family != AF_INET && info->ai_family != AF_INET6) continue;
    base::UniqueFd fd;
    int error = Reserve(*info, result.port, fd);
    std::string text = ToText(*info->ai_addr, info->ai_addrlen, result.port);
    const auto& known = result.addresses;
    if (std::find(known.begin(), known.end(), text) != known.end()) continue;
    if (IsMissingHere(error)) {
      missing = ErrnoError(error, text);
      continue;
    }
    if (error != 0) return ErrnoError(error, text);
    result.is_local = result.is_local && IsLoopback(*info->ai_addr);
    result.addresses.push_back(std::move(text));
    result.reserved.push_back(std::move(fd));
  }
  if (result.addresses.empty()) return missing;
  return result;
}

absl::Status BeginToListen(const ListenAddresses& addresses) {
  for (size_t i = 0; i < addresses.reserved.size(); ++i) {
    if (::listen(addresses.reserved[i].get(), SOMAXCONN) != 0) {
      return ErrnoError(errno, addresses.addresses[i]);
    }
  }
  return absl::OkStatus();
}

}  // namespace sma::service
