#pragma once

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "base/uuid.h"
#include "sma.pb.h"

namespace sma::volume {

/// Keeps the keys and secrets of volumes for as long as their rows are in the record. Thread-safe.
class Sealer {
 public:
  virtual ~Sealer() = default;

  /// What to keep in record::Volume::sealed, so that Open finds `secrets` again; may be empty when
  /// they are kept elsewhere.
  virtual absl::StatusOr<std::string> Seal(const base::Uuid& id,
                                           const VolumeParameters& secrets) = 0;

  /// The secrets. FAILED_PRECONDITION: they are not kept, or cannot be read.
  virtual absl::StatusOr<VolumeParameters> Open(const base::Uuid& id,
                                                const std::string& sealed) = 0;

  /// The row of the volume goes.
  virtual void Forget(const base::Uuid& id) = 0;
};

/// Keeps them in memory alone: after a restart of the agent they are not known any more.
class MemorySealer : public Sealer {
 public:
  absl::StatusOr<std::string> Seal(const base::Uuid& id, const VolumeParameters& secrets) override;
  absl::StatusOr<VolumeParameters> Open(const base::Uuid& id, const std::string& sealed) override;
  void Forget(const base::Uuid& id) override;

 private:
  base::Mutex mutex_;
  std::map<base::Uuid, VolumeParameters> secrets_ SMA_GUARDED_BY(mutex_);
};

}  // namespace sma::volume
