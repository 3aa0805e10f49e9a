// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <vector>

#include "agent/record/record.h"
#include "agent/volume/shared_connections.h"

namespace sma::volume {

/// Checks whether the portals of iSCSI volumes answer. A target keeps the bdev of a logical unit
/// whose portal has died, and does not report the state of its session, so the agent logs in from
/// its own host (ADR 0017). Threads of their own wait for portals; no caller does. Thread-safe.
class PortalChecks {
 public:
  /// Checks each portal at this interval, and again after at most two seconds without an answer.
  explicit PortalChecks(std::chrono::nanoseconds period);

  /// Starts the checks that are due for the portals of the iSCSI volumes in `rows`, and forgets all
  /// other portals. Does not block.
  void Begin(const std::vector<record::Volume>& rows);

  /// Returns one path, which is down if the portal left two checks in a row without an answer.
  /// Returns nullopt for a portal that has never answered a check: this host may have no route to
  /// it, unlike the target.
  std::optional<PathCount> PathsOf(const record::Volume& row) const;

 private:
  struct State;

  const std::chrono::nanoseconds period_;
  const std::shared_ptr<State> state_;  // shared with the threads, which may outlive this object
};

}  // namespace sma::volume
