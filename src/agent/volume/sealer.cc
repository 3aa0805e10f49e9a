#include "agent/volume/sealer.h"

#include <fmt/format.h>

namespace sma::volume {

using base::MutexLock;

absl::StatusOr<std::string> MemorySealer::Seal(const base::Uuid& id,
                                               const VolumeParameters& secrets) {
  MutexLock lock(mutex_);
  secrets_[id] = secrets;
  return std::string();
}

absl::StatusOr<VolumeParameters> MemorySealer::Open(const base::Uuid& id,
                                                    const std::string& /*sealed*/) {
  MutexLock lock(mutex_);
  auto found = secrets_.find(id);
  if (found != secrets_.end()) return found->second;
  return absl::FailedPreconditionError(fmt::format(
      "volume {}: its secrets are not kept over a restart of the agent: attach it again",
      id.ToString()));
}

void MemorySealer::Forget(const base::Uuid& id) {
  MutexLock lock(mutex_);
  secrets_.erase(id);
}

}  // namespace sma::volume
