// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <sys/types.h>

#include <string>

#include "absl/status/status.h"

namespace sma::base {

/// Returns OK if the process at the other end of `socket`, a connected Unix socket, runs as this
/// process's effective user or as root. On the connecting side the peer is the process that called
/// listen(2) (unix(7), "SO_PEERCRED"). Returns PERMISSION_DENIED, naming the process and the user,
/// if it runs as another user; otherwise the system's error. Thread-safe.
absl::Status CheckPeerUser(int socket);

/// Returns true if `user` is this process's effective user or root. Only these users may give keys
/// to this process or receive keys from it.
bool IsTrustedUser(uid_t user);

/// Returns OK if only trusted users (IsTrustedUser) can replace the file at `path`: its folder, and
/// each folder above it, belongs to one of them and is not writable by group or others unless it is
/// sticky. Symbolic links are resolved; the folders that contain the links are checked as well.
/// Otherwise returns FAILED_PRECONDITION, naming the folder, or the system's error.
absl::Status CheckFolders(const std::string& path);

}  // namespace sma::base
