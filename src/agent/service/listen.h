// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace sma::service {

/// Addresses on which a server can listen and which are not yet in use.
struct ListenAddresses {
  std::vector<std::string> addresses;  // "127.0.0.1:8080", "[::1]:8080" or "unix:PATH"
  uint16_t port = 0;                   // of all addresses; 0 for a Unix socket
  bool is_local = true;                // a Unix socket, or loopback addresses only
  /// One bound, non-blocking socket for each address; they do not listen yet.
  std::vector<base::UniqueFd> reserved;
  std::string unix_path;  // to be removed when the server stops; empty: none
};

/// Resolves `address` (an address without brackets, a host name or "unix:PATH") and checks that no
/// other socket is listening there. Port 0 is replaced by a free port. Addresses of a host name
/// that do not belong to this host are skipped, if at least one remains. Errors: INVALID_ARGUMENT
/// if `address` cannot be resolved; ALREADY_EXISTS if it is in use; otherwise the system's error.
/// Blocks.
absl::StatusOr<ListenAddresses> ReserveListenAddresses(const std::string& address, uint16_t port);

/// Makes the reserved sockets listen. Errors: ALREADY_EXISTS if another socket has started
/// listening on one of the addresses in the meantime; otherwise the system's error.
absl::Status BeginToListen(const ListenAddresses& addresses);

}  // namespace sma::service
