// SPDX-License-Identifier: Apache-2.0

#include "storage_target/rpc/app/notifications.h"

#include "storage_target/rpc/params.h"

namespace sma::storage_target::rpc {
namespace {

constexpr size_t kMaxEvents = 1024;

RpcResult GetNotifications(const Notifications& notifications, const Json& params) {
  uint64_t first_id = 0;
  uint64_t max = UINT64_MAX;
  if (!Decode(params, {Optional("id", &first_id), Optional("max", &max)})) return DecodeError();
  Json list = Json::array();
  for (const Notifications::Event& event : notifications.events()) {
    if (event.id < first_id) continue;
    if (list.size() >= max) break;
    list.push_back({{"type", event.type}, {"ctx", event.context}, {"id", event.id}});
  }
  return list;
}

}  // namespace

Notifications::Notifications(bdev::Registry& registry) : registry_(registry) {
  registry_.AddObserver(this);
}

Notifications::~Notifications() { registry_.RemoveObserver(this); }

void Notifications::Add(const char* type, const bdev::Bdev& bdev) {
  if (events_.size() == kMaxEvents) events_.pop_front();
  events_.push_back({next_id_++, type, bdev.name()});
}

void RegisterNotifyRpc(RpcServer& server, const Notifications& notifications) {
  server.Register("notify_get_types", [](const Json& params) -> RpcResult {
    if (!Decode(params, {})) return DecodeError();
    return Json::array({"bdev_register", "bdev_unregister", "bdev_resize"});
  });
  server.Register("notify_get_notifications",
                  [&](const Json& params) { return GetNotifications(notifications, params); });
}

}  // namespace sma::storage_target::rpc
