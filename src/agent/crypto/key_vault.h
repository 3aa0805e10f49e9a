#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "base/secret.h"
#include "base/uuid.h"

namespace sma::crypto {

/// What the record keeps of a volume's secrets: a fingerprint, by which a secret can be told from
/// another one but not found out; and, where there is a sealing key, the secrets themselves, sealed
/// by AES-256-GCM. Both are bound to the volume. Thread-safe.
class KeyVault {
 public:
  /// Without a sealing key nothing can be recovered.
  explicit KeyVault(std::optional<base::Secret> sealing_key) : key_(std::move(sealing_key)) {}

  bool can_recover() const { return key_.has_value(); }

  /// What to keep of `secret`: another text each time.
  std::string Keep(const base::Uuid& volume_id, std::string_view secret) const;

  /// Whether `kept` was made of `secret`; in a time that does not tell how much of it is right.
  static bool Matches(const base::Uuid& volume_id, std::string_view kept, std::string_view secret);

  /// The secret. FAILED_PRECONDITION: it was not sealed, there is no sealing key now, or it is
  /// another one. DATA_LOSS: `kept` is damaged, or another volume's.
  absl::StatusOr<base::Secret> Recover(const base::Uuid& volume_id, std::string_view kept) const;

 private:
  std::string Seal(const base::Uuid& volume_id, std::string_view secret) const;

  const std::optional<base::Secret> key_;
};

}  // namespace sma::crypto
