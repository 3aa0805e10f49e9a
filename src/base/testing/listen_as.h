// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "base/unique_fd.h"

namespace sma::base {

/// For tests: listens on a non-blocking Unix socket at `path` such that clients see `user` as its
/// owner (SO_PEERCRED). Returns an invalid descriptor on failure. Must run as root. Temporarily
/// changes the user of the calling thread only: unlike seteuid(3), the system call applies to a
/// single thread.
inline UniqueFd ListenAs(uid_t user, const std::string& path) {
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  std::copy(path.begin(), path.end(), name.sun_path);
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&name), sizeof(name)) != 0) return UniqueFd();
  ::syscall(SYS_setresuid, -1, user, -1);
  bool listens = ::listen(fd.get(), 16) == 0;
  ::syscall(SYS_setresuid, -1, 0, -1);
  return listens ? std::move(fd) : UniqueFd();
}

}  // namespace sma::base
