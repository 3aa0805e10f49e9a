#pragma once

#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/record/rows.h"

namespace sma::record {

/// What has to outlive a write for it to be worth anything.
enum class Durability {
  /// The agent. For intents: when the host dies, so does what the target was doing.
  kProcess,
  /// The host. For what was answered with success.
  kHost,
};

/// Where rows are kept. Used by one thread at a time.
class Store {
 public:
  virtual ~Store() = default;

  virtual absl::StatusOr<Contents> Load() = 0;

  /// Writes all of `changes`, in order, or nothing. RESOURCE_EXHAUSTED: no space left.
  /// FAILED_PRECONDITION: not writable. INTERNAL: anything else.
  virtual absl::Status Commit(std::span<const Change* const> changes, Durability durability) = 0;
};

}  // namespace sma::record
