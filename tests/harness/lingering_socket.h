// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <vector>

#include "base/unique_fd.h"

namespace sma::harness {

/// A connected TCP socket whose last close(2) blocks for half a minute: it has unsent data that its
/// peer does not read, and SO_LINGER.
class LingeringSocket {
 public:
  LingeringSocket() {
    base::UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof name;
    auto* generic = reinterpret_cast<sockaddr*>(&name);
    ::bind(listener.get(), generic, length);
    ::listen(listener.get(), 1);
    ::getsockname(listener.get(), generic, &length);
    socket_.Reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ::connect(socket_.get(), generic, length);
    peer_.Reset(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    const std::vector<char> data(1 << 16);
    while (::send(socket_.get(), data.data(), data.size(), MSG_DONTWAIT) > 0) {
    }
    const linger half_a_minute{.l_onoff = 1, .l_linger = 30};
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_LINGER, &half_a_minute, sizeof half_a_minute);
  }

  int fd() const { return socket_.get(); }
  /// Closes this process's descriptor after another process has received a copy, so that the other
  /// process is the last to close the socket.
  void Leave() { socket_.Reset(); }

 private:
  base::UniqueFd peer_;
  base::UniqueFd socket_;
};

}  // namespace sma::harness
