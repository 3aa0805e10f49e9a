// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "base/secret.h"

namespace sma::crypto {

/// Reads the key that seals secrets in the record: 32 bytes, or 64 hex digits with an optional
/// newline at the end.
///
/// Returns FAILED_PRECONDITION if the key is missing, unreadable or not in this form. A file is
/// also rejected if it belongs to a user other than root or this process's user, if its group or
/// others may write to it, if others may read it, or if another user can replace it
/// (base::CheckFolders).

absl::StatusOr<base::Secret> SealingKeyFromFile(const std::string& path);

/// Reads a credential passed by the service manager: the file with this name in
/// $CREDENTIALS_DIRECTORY (systemd.exec(5), "LoadCredential").
absl::StatusOr<base::Secret> SealingKeyFromCredential(const std::string& name);

/// Reads the key from an environment variable, which is then overwritten. Call it before other
/// threads read the environment.
absl::StatusOr<base::Secret> SealingKeyFromEnvironment(const std::string& variable);

}  // namespace sma::crypto
