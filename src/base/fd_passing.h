// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include <cstddef>
#include <span>
#include <vector>

#include "base/unique_fd.h"

namespace sma::base {

/// The maximum number of file descriptors in one message: the kernel's SCM_MAX_FD.
inline constexpr size_t kMaxPassedFds = 253;

/// Sends `parts` as one message over a Unix socket, with copies of `fds` (unix(7), SCM_RIGHTS; at
/// most kMaxPassedFds). `flags` are added to MSG_NOSIGNAL. Returns the number of bytes sent, or -1
/// with errno set (EINVAL for too many descriptors). The descriptors are received with the first
/// byte.
ssize_t SendWithFds(int socket, std::span<const iovec> parts, std::span<const int> fds,
                    int flags = 0);

/// Receives up to `bytes.size()` bytes from a Unix socket and appends the descriptors that were
/// received with them to `fds`, marked close-on-exec. Returns the number of bytes, 0 at the end of
/// the stream, or -1 with errno set, which is EMSGSIZE if the message contained more descriptors
/// than this process may open. Interrupted calls are repeated.
ssize_t ReceiveWithFds(int socket, std::span<std::byte> bytes, std::vector<UniqueFd>& fds,
                       int flags = 0);

}  // namespace sma::base
