// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sma::vfiouser {

/// Name of the socket in a device's folder.
inline constexpr char kSocketName[] = "cntrl";

/// Creates the folder `path`, and its parent if needed. Returns true if it was created, and false
/// if it already exists as a folder (not a link). Returns FAILED_PRECONDITION if the path is not a
/// folder, belongs to another user or is writable by others, or if the system refuses.
absl::StatusOr<bool> MakeFolder(const std::string& path);

/// Removes the folder `path` and a socket in it on which no process listens. Returns true if the
/// folder no longer exists; returns false if it contains anything else, which is kept.
absl::StatusOr<bool> RemoveFolder(const std::string& path);

}  // namespace sma::vfiouser
