// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <deque>
#include <string>

#include "storage_target/bdev/registry.h"
#include "storage_target/rpc/rpc_server.h"

namespace sma::storage_target::rpc {

/// The most recent events of bdevs, for notify_get_notifications: clients request the events that
/// follow the last one they know. Used only on the control reactor.
class Notifications final : public bdev::RegistryObserver {
 public:
  explicit Notifications(bdev::Registry& registry);
  ~Notifications() override;

  struct Event {
    uint64_t id;  // counted from 0
    const char* type;
    std::string context;  // the bdev's name
  };
  /// Returns the stored events, oldest first.
  const std::deque<Event>& events() const { return events_; }

 private:
  void OnBdevRegistered(bdev::Bdev& bdev) override { Add("bdev_register", bdev); }
  void OnBdevUnregistered(bdev::Bdev& bdev) override { Add("bdev_unregister", bdev); }
  void OnBdevResized(bdev::Bdev& bdev) override { Add("bdev_resize", bdev); }
  void Add(const char* type, const bdev::Bdev& bdev);

  bdev::Registry& registry_;
  uint64_t next_id_ = 0;
  std::deque<Event> events_;
};

/// Registers notify_get_types and notify_get_notifications.
void RegisterNotifyRpc(RpcServer& server, const Notifications& notifications);

}  // namespace sma::storage_target::rpc
