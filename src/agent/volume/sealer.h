// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <map>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "agent/crypto/key_vault.h"
#include "agent/crypto/volume_keys.h"
#include "base/mutex.h"
#include "base/uuid.h"
#include "sma.pb.h"

namespace sma::volume {

/// Encrypts ("seals") the keys of volumes and the secrets of their connections for
/// record::Volume::sealed. Thread-safe.
///
/// Without a sealing key, only a fingerprint of the keys is stored in the record, and the
/// connection's secrets are kept in memory for as long as the volume's row exists.
class Sealer {
 public:
  explicit Sealer(std::optional<base::Secret> sealing_key) : vault_(std::move(sealing_key)) {}

  /// Returns the sealed text; empty if there is nothing to keep. `keys` is null for a volume that
  /// is not encrypted.
  std::string Seal(const base::Uuid& id, const VolumeParameters& secrets,
                   const crypto::VolumeKeys* keys);

  /// Returns the connection's secrets. Returns FAILED_PRECONDITION if they were not kept or cannot
  /// be read, and DATA_LOSS if they are damaged.
  absl::StatusOr<VolumeParameters> Open(const base::Uuid& id, const std::string& sealed);

  /// Forgets a volume whose row is being removed.
  void Forget(const base::Uuid& id);

  /// Returns true if `sealed` has the volume's keys or their fingerprint.
  static bool HasKeys(const std::string& sealed);
  /// Returns true if `sealed` was created from `keys`.
  static bool SameKeys(const base::Uuid& id, const std::string& sealed,
                       const crypto::VolumeKeys& keys);
  /// Returns the keys. Returns FAILED_PRECONDITION or DATA_LOSS in the same cases as
  /// KeyVault::Recover.
  absl::StatusOr<crypto::VolumeKeys> OpenKeys(const base::Uuid& id, const std::string& sealed,
                                              const VolumeCryptoParameters& params) const;
  /// Returns true if Seal could now keep keys that cannot be recovered from `sealed`.
  bool ShouldReseal(const base::Uuid& id, const std::string& sealed) const;

 private:
  const crypto::KeyVault vault_;
  base::Mutex mutex_;
  std::map<base::Uuid, VolumeParameters> secrets_ SMA_GUARDED_BY(mutex_);
};

}  // namespace sma::volume
