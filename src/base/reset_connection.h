// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <sys/socket.h>

namespace sma::base {

/// Resets the connection of a TCP socket, so that the kernel drops the data that it has not sent
/// yet. After close(2) it would still deliver this data, however late (tcp(7), connect(2) with
/// AF_UNSPEC). The socket remains open. Does nothing if there is no connection.
inline void ResetConnection(int socket) {
  sockaddr none{};
  none.sa_family = AF_UNSPEC;
  static_cast<void>(::connect(socket, &none, sizeof none));
}

}  // namespace sma::base
