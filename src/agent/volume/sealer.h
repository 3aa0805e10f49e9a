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

/// Keeps the keys that volumes are encrypted with and the secrets of their connections, in what
/// goes to record::Volume::sealed. Thread-safe.
///
/// Without a sealing key, of the keys only a fingerprint is kept, and secrets of connections in
/// memory alone, for as long as the rows are in the record.
class Sealer {
 public:
  explicit Sealer(std::optional<base::Secret> sealing_key) : vault_(std::move(sealing_key)) {}

  /// What to keep; empty when there is nothing. `keys` null: not encrypted.
  std::string Seal(const base::Uuid& id, const VolumeParameters& secrets,
                   const crypto::VolumeKeys* keys);

  /// The secrets of the connection. FAILED_PRECONDITION: they are not kept, or cannot be read.
  absl::StatusOr<VolumeParameters> Open(const base::Uuid& id, const std::string& sealed);

  /// The row of the volume goes.
  void Forget(const base::Uuid& id);

  /// Whether something is kept of the volume's keys.
  static bool HasKeys(const std::string& sealed);
  /// Whether these are the keys that something is kept of.
  static bool SameKeys(const base::Uuid& id, const std::string& sealed,
                       const crypto::VolumeKeys& keys);
  /// The keys. FAILED_PRECONDITION, DATA_LOSS: as KeyVault::Recover.
  absl::StatusOr<crypto::VolumeKeys> OpenKeys(const base::Uuid& id, const std::string& sealed,
                                              const VolumeCryptoParameters& params) const;
  /// Whether Seal would now keep keys that `sealed` does not give back.
  bool ShouldSealAgain(const base::Uuid& id, const std::string& sealed) const;

 private:
  const crypto::KeyVault vault_;
  base::Mutex mutex_;
  std::map<base::Uuid, VolumeParameters> secrets_ SMA_GUARDED_BY(mutex_);
};

}  // namespace sma::volume
