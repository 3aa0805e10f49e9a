// SPDX-License-Identifier: Apache-2.0

#include "agent/spdk/notify.h"

#include <utility>

#include "agent/spdk/call.h"
#include "agent/spdk/json_read.h"

namespace sma::spdk {
namespace {

using jsonrpc::Json;
using jsonrpc::Request;

constexpr char kGetNotifications[] = "notify_get_notifications";
constexpr size_t kMaxNameSize = 127;  // SPDK_NOTIFY_MAX_CTX_SIZE without the terminator

BdevEvent::Kind KindOf(std::string_view type) {
  if (type == "bdev_register") return BdevEvent::Kind::kRegistered;
  if (type == "bdev_unregister") return BdevEvent::Kind::kUnregistered;
  return BdevEvent::Kind::kOther;
}

}  // namespace

Request GetNotifications(uint64_t first_id) { return {kGetNotifications, {{"id", first_id}}}; }

absl::StatusOr<std::vector<BdevEvent>> ParseNotifications(const Json& answer) {
  if (!answer.is_array()) return MalformedAnswer(kGetNotifications);
  std::vector<BdevEvent> events;
  for (const Json& entry : answer) {
    std::optional<std::string> type = StringMember(entry, "type");
    std::optional<std::string> name = StringMember(entry, "ctx");
    std::optional<uint64_t> id = UintMember(entry, "id");
    const bool is_next = id && *id != UINT64_MAX && (events.empty() || *id > events.back().id);
    if (!type || !name || !is_next) return MalformedAnswer(kGetNotifications);
    events.push_back({.id = *id, .kind = KindOf(*type), .bdev_name = *std::move(name)});
  }
  return events;
}

std::string_view EventName(std::string_view bdev_name) { return bdev_name.substr(0, kMaxNameSize); }

}  // namespace sma::spdk
