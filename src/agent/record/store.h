// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/record/rows.h"

namespace sma::record {

/// The kind of crash that a committed write survives.
enum class Durability {
  /// A crash of the agent. Sufficient for intents, because a crash of the host also ends the
  /// target's work.
  kProcess,
  /// A crash of the host. Required for every change that is reported as successful.
  kHost,
};

/// Persistent storage for rows. Not thread-safe.
class Store {
 public:
  virtual ~Store() = default;

  virtual absl::StatusOr<Contents> Load() = 0;

  /// Writes all of `changes` in order, or none. Returns RESOURCE_EXHAUSTED if no space is left,
  /// otherwise UNAVAILABLE, with the reason that the system reports. A later commit may succeed.
  virtual absl::Status Commit(std::span<const Change* const> changes, Durability durability) = 0;
};

}  // namespace sma::record
