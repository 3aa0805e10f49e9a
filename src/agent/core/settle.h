// SPDX-License-Identifier: Apache-2.0

#pragma once

#include "absl/status/status.h"
#include "agent/core/core.h"
#include "base/context.h"
#include "sma/outcome.h"

namespace sma::core {

// Finish operations that the record lists as unfinished: remove the leftovers from the target.
// While the target may still act on an abandoned call about the object, which could create the
// object again, the row is kept, and UNAVAILABLE is returned. If `now` is true, waits several
// seconds for the target to finish with such calls, and ignores the age of the row unless an
// earlier run of the agent wrote it.

/// Settles the device unless it is ready. The caller holds its lock exclusively.
Outcome SettleDevice(Core& core, const base::Context& context, const std::string& handle, bool now);

/// Settles the volume unless it is attached. The caller holds its lock and its device's lock. An
/// attach that an earlier run of the agent began counts as done if the device exports the volume:
/// the row is then attached. The outcome is "under way" while the device still waits for I/O to the
/// volume's storage node.
Outcome SettleVolume(Core& core, const base::Context& context, const base::Uuid& id, bool now);

}  // namespace sma::core
