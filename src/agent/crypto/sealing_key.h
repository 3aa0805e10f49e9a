#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "base/secret.h"

namespace sma::crypto {

/// The key that seals what the record keeps: 32 bytes, given as they are or as 64 hex digits, which
/// a newline may end.
///
/// Returns FAILED_PRECONDITION if it is missing, cannot be read or is not such a key; for a file,
/// also if it belongs to another user than root or ours, if group or others may write to it, others
/// may read it, or another user can replace it (base::CheckFolders).

absl::StatusOr<base::Secret> SealingKeyFromFile(const std::string& path);

/// A credential of the service manager: the file of this name in $CREDENTIALS_DIRECTORY
/// (systemd.exec(5), "LoadCredential").
absl::StatusOr<base::Secret> SealingKeyFromCredential(const std::string& name);

/// Overwrites the variable's value. Before other threads read the environment.
absl::StatusOr<base::Secret> SealingKeyFromEnvironment(const std::string& variable);

}  // namespace sma::crypto
