// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <compare>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "base/context.h"
#include "base/unique_fd.h"

namespace sma::qmp {

/// The address at which a QEMU listens for QMP: a TCP address or a Unix socket.
struct Address {
  std::string host;  // empty for a Unix socket
  uint16_t port = 0;
  std::string path;  // path of the Unix socket; empty for TCP

  /// Returns "HOST:PORT", with an IPv6 address in brackets, or "unix:PATH".
  std::string ToString() const;

  // NOLINTNEXTLINE(modernize-use-nullptr): in the generated operator
  friend auto operator<=>(const Address&, const Address&) = default;
};

/// Returns a connected, non-blocking socket. Blocks until `until` at most, and returns CANCELLED as
/// soon as `interrupt` becomes readable. Returns NOT_FOUND if no process listens at the address,
/// and UNAVAILABLE if there is no answer, for example because QEMU is serving another client and
/// its queue is full. Resolving a host name may take longer.
absl::StatusOr<base::UniqueFd> Connect(const Address& address, base::TimePoint until,
                                       int interrupt);

}  // namespace sma::qmp
