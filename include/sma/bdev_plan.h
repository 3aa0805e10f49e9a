// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "jsonrpc/caller.h"
#include "sma/outcome.h"

namespace sma {

/// Requests that create a bdev on the target and query it. The caller sends them together with the
/// request that exports the bdev, so that both take one round trip. Creating a plan sends nothing.
/// A plan can be used only once. Not thread-safe.
class BdevPlan {
 public:
  virtual ~BdevPlan() = default;

  /// Returns the name that the bdev will have.
  virtual const std::string& bdev_name() const = 0;

  /// Returns the requests. Send them in this order, on one connection, before any request that uses
  /// the bdev. They may contain keys.
  virtual std::vector<jsonrpc::Request> TakeRequests() = 0;

  /// Checks the answers to all requests that TakeRequests() returned. Returns done if the bdev
  /// exists exactly as requested. On any other outcome the bdev may exist, possibly with other
  /// parameters or another key, and must not be used: call Undo(). Returns "needs setup" for an
  /// obstacle that CryptoEngine::Setup can remove. Wipes the keys in both spans.
  virtual Outcome CheckResults(std::span<jsonrpc::Request> sent,
                               std::span<absl::StatusOr<jsonrpc::Json>> answers) = 0;

  /// Rolls back what the requests created, and nothing else. The bdev must no longer be in use.
  /// Returns `reason`, or the same reason as an unknown outcome if anything may be left on the
  /// target. Blocks.
  virtual Outcome Undo(Outcome reason) = 0;
};

}  // namespace sma
