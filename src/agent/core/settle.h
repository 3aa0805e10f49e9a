#pragma once

#include "absl/status/status.h"
#include "agent/core/core.h"
#include "base/context.h"

namespace sma::core {

/// Finishes what calls left in the record: takes from the target what has to go. A row stays when
/// the target may still act on a call that was given up, in whatever order it acts; that is
/// UNAVAILABLE. `now` waits some seconds until it no longer may, and does not ask how old the row
/// is unless it is of an agent before this one.

/// The device, unless it is ready. Its lock is held exclusively.
Outcome SettleDevice(Core& core, const base::Context& context, const std::string& handle, bool now);

/// The volume, unless it is attached. Its device's lock is held, its own too.
absl::Status SettleVolume(Core& core, const base::Context& context, const base::Uuid& id, bool now);

/// Releases volumes that their device has let go of; the first error after having tried all.
absl::Status ReleaseAll(Core& core, const base::Context& context,
                        const std::vector<record::Volume>& rows);

}  // namespace sma::core
