#pragma once

#include <compare>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "base/context.h"
#include "base/unique_fd.h"

namespace sma::qmp {

/// Where a QEMU listens for QMP: a TCP address or a Unix socket.
struct Address {
  std::string host;  // empty for a Unix socket
  uint16_t port = 0;
  std::string path;  // of the Unix socket; empty for TCP

  /// "HOST:PORT", an IPv6 address in brackets, or "unix:PATH".
  std::string ToString() const;

  // NOLINTNEXTLINE(modernize-use-nullptr): of the operator that the compiler makes
  friend auto operator<=>(const Address&, const Address&) = default;
};

/// A connected, non-blocking socket; blocks until `until` at most, and ends with CANCELLED as soon
/// as `interrupt` becomes readable. UNAVAILABLE: nobody answers there. A host name is resolved,
/// which may take longer.
absl::StatusOr<base::UniqueFd> Connect(const Address& address, base::TimePoint until,
                                       int interrupt);

}  // namespace sma::qmp
