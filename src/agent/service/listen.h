#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace sma::service {

/// Where a server may listen, found free.
struct ListenAddresses {
  std::vector<std::string> addresses;  // "127.0.0.1:8080", "[::1]:8080" or "unix:PATH"
  uint16_t port = 0;                   // the one of all of them; 0 for a Unix socket
  bool is_local = true;                // a Unix socket, or the loopback interface alone
  /// Sockets, one for each address, that are bound, do not listen yet and do not block.
  std::vector<base::UniqueFd> reserved;
  std::string unix_path;  // to be removed at the end; empty: none
};

/// Resolves `address` (an address without brackets, a host name or "unix:PATH") and sees that
/// nobody listens there. Port 0 becomes a free one. Addresses of a name that this host does not
/// have are left out, if any remains. INVALID_ARGUMENT: not to be resolved; ALREADY_EXISTS: in use;
/// else what the system says. Blocks.
absl::StatusOr<ListenAddresses> ReserveListenAddresses(const std::string& address, uint16_t port);

/// Makes the reserved sockets listen. Returns ALREADY_EXISTS if somebody else listens by now; else
/// the system's error.
absl::Status BeginToListen(const ListenAddresses& addresses);

}  // namespace sma::service
