#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "jsonrpc/caller.h"

namespace sma::spdk {

/// What happened to a bdev.
struct BdevEvent {
  enum class Kind { kRegistered, kUnregistered, kOther };

  uint64_t id = 0;  // counts from 0 with the start of the target
  Kind kind = Kind::kOther;
  std::string bdev_name;  // no more of it than EventName gives
};

/// The events with `first_id` and later ids, oldest first. The target keeps the last 1024 and
/// answers at once.
jsonrpc::Request GetNotifications(uint64_t first_id);

/// What notify_get_notifications answered. INTERNAL when it is malformed.
absl::StatusOr<std::vector<BdevEvent>> ParseNotifications(const jsonrpc::Json& answer);

/// A bdev's name as events have it: SPDK cuts it off after 127 bytes.
std::string_view EventName(std::string_view bdev_name);

}  // namespace sma::spdk
