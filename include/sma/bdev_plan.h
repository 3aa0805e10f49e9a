#pragma once

#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "jsonrpc/caller.h"

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

  /// Whether the bdev is there, just as it has to be, by the answers to all the requests that were
  /// taken. Wipes the keys in both. Not OK: the bdev may be there all the same, with other content
  /// than it should have: nobody may use it. ABORTED: something was in the way that
  /// CryptoEngine::Setup can clear.
  virtual absl::Status Judge(std::span<jsonrpc::Request> sent,
                             std::span<absl::StatusOr<jsonrpc::Json>> answers) = 0;

  /// Takes back what the requests made, and only that; the bdev is not in use any more. Gives
  /// `reason`, marked by jsonrpc::WithFateUnknown when something may be left. Blocks.
  virtual absl::Status Undo(absl::Status reason) = 0;
};

}  // namespace sma
