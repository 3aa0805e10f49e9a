#pragma once

#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "jsonrpc/caller.h"
#include "sma/outcome.h"

namespace sma {

/// Calls to the target that make a bdev and look at it, to be sent in one go with the call that
/// exports it: one round trip for both. Nothing was sent yet. Used once, in one thread.
class BdevPlan {
 public:
  virtual ~BdevPlan() = default;

  /// What the bdev will be called.
  virtual const std::string& bdev_name() const = 0;

  /// To be sent in this order, on one connection, in front of what uses the bdev. They may hold
  /// keys.
  virtual std::vector<jsonrpc::Request> TakeRequests() = 0;

  /// Done: the bdev exists and is exactly as requested, according to the answers to all requests
  /// that were taken. Otherwise it may exist all the same, with other content than it should have,
  /// and must not be used; Undo is called. Needs setup: an obstacle that CryptoEngine::Setup can
  /// clear. Wipes the keys in both spans.
  virtual Outcome CheckResults(std::span<jsonrpc::Request> sent,
                               std::span<absl::StatusOr<jsonrpc::Json>> answers) = 0;

  /// Rolls back what the requests created, and only that; the bdev is not in use any more. Returns
  /// `reason`, as unknown where something may be left. Blocks.
  virtual Outcome Undo(Outcome reason) = 0;
};

}  // namespace sma
