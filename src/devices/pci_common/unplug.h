// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <optional>

#include "absl/status/status.h"
#include "base/context.h"
#include "sma/outcome.h"

namespace sma::pci_common {

/// Returns the outcome of deleting a device whose unplug ended with `status`: "under way" if the
/// guest has not released the device although `context`, the context of the call, has not ended.
Outcome UnplugOutcome(const base::Context& context, const absl::Status& status);

/// Returns true if a VM has been unreachable for at least `wait`; `since` is the time at which it
/// became unreachable, or nullopt if it can be reached.
bool IsLongGone(std::optional<base::TimePoint> since, std::chrono::nanoseconds wait);

}  // namespace sma::pci_common
