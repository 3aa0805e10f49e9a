#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sma::vfiouser {

/// The socket in a device's folder.
inline constexpr char kSocketName[] = "cntrl";

/// Makes the folder `path`, whose parent exists or is made too. False: it is there already, a
/// folder and no link. FAILED_PRECONDITION: something else has its name, or the system does not let
/// us.
absl::StatusOr<bool> MakeFolder(const std::string& path);

/// Removes the folder `path` and a socket in it that nobody listens on. True when it is gone, or
/// was not there. False: there is something else in it, which is not ours.
absl::StatusOr<bool> RemoveFolder(const std::string& path);

}  // namespace sma::vfiouser
