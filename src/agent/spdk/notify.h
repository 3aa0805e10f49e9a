// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "jsonrpc/caller.h"

namespace sma::spdk {

/// An event of a bdev.
struct BdevEvent {
  enum class Kind { kRegistered, kUnregistered, kOther };

  uint64_t id = 0;  // counts from 0 at the start of the target
  Kind kind = Kind::kOther;
  std::string bdev_name;  // truncated like EventName()
};

/// Requests the events with id `first_id` or higher, oldest first. The target keeps the last 1024
/// events and answers immediately.
jsonrpc::Request GetNotifications(uint64_t first_id);

/// Parses the answer of notify_get_notifications. Returns INTERNAL if it is malformed.
absl::StatusOr<std::vector<BdevEvent>> ParseNotifications(const jsonrpc::Json& answer);

/// Returns a bdev's name as it appears in events: SPDK truncates it to 127 bytes.
std::string_view EventName(std::string_view bdev_name);

}  // namespace sma::spdk
