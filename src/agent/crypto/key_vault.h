// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "base/secret.h"
#include "base/uuid.h"

namespace sma::crypto {

/// Converts a volume's secrets to the form that the record stores: a fingerprint, with which
/// secrets can be compared but not recovered, and, if there is a sealing key, the secrets
/// themselves, sealed with AES-256-GCM. Both are bound to the volume. Thread-safe.
class KeyVault {
 public:
  /// Without a sealing key no secret can be recovered.
  explicit KeyVault(std::optional<base::Secret> sealing_key) : key_(std::move(sealing_key)) {}

  bool can_recover() const { return key_.has_value(); }

  /// Returns the string to store for `secret`, which differs each time.
  std::string Keep(const base::Uuid& volume_id, std::string_view secret) const;

  /// Returns true if `kept` was created from `secret`. Runs in constant time.
  static bool Matches(const base::Uuid& volume_id, std::string_view kept, std::string_view secret);

  /// Returns the secret. Returns FAILED_PRECONDITION if it was not sealed with the current sealing
  /// key or there is no sealing key, and DATA_LOSS if `kept` is damaged or belongs to another
  /// volume.
  absl::StatusOr<base::Secret> Recover(const base::Uuid& volume_id, std::string_view kept) const;

 private:
  std::string Seal(const base::Uuid& volume_id, std::string_view secret) const;

  const std::optional<base::Secret> key_;
};

}  // namespace sma::crypto
