#pragma once

#include "absl/status/status.h"
#include "agent/core/core.h"
#include "base/context.h"
#include "sma/outcome.h"

namespace sma::core {

// Finishes what operations left in the record: removes from the target what has to go. A row stays
// when the target may still act on a call about it that was given up, in whatever order it acts;
// that is UNAVAILABLE. `now` waits some seconds until it no longer may, and does not ask how old
// the row is unless it is of an agent before this one.

/// The device, unless it is ready. Its lock is held exclusively.
Outcome SettleDevice(Core& core, const base::Context& context, const std::string& handle, bool now);

/// The volume, unless it is attached. Its device's lock is held, its own too.
absl::Status SettleVolume(Core& core, const base::Context& context, const base::Uuid& id, bool now);

}  // namespace sma::core
