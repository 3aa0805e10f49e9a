#pragma once

#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "agent/core/core.h"
#include "agent/spdk/bdev.h"
#include "base/context.h"

namespace sma::core {

/// The limits that the target's bdevs had at one time, to find those that somebody else has
/// changed.
class LimitListing {
 public:
  /// Asks the target once; null, unasked, when no volume of the record has limits.
  static absl::StatusOr<std::unique_ptr<LimitListing>> Take(const Core& core,
                                                            const base::Context& context);

  /// Whether the volume has other limits on the target than in the record. What differs in the
  /// listing is looked up once more: a call may have set it meanwhile. The device's lock is held
  /// exclusively.
  absl::StatusOr<bool> Differs(const Core& core, const base::Context& context,
                               const DeviceVolume& volume) const;

 private:
  std::map<std::string, spdk::RateLimits> limits_;  // by name and alias
};

}  // namespace sma::core
