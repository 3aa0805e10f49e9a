#pragma once

#include <cstdint>
#include <deque>
#include <string>

#include "target/bdev/registry.h"
#include "target/rpc/rpc_server.h"

namespace sma::target::rpc {

/// The last events of bdevs, for notify_get_notifications: clients ask for those since the last
/// that they saw. Control reactor only.
class Notifications final : public bdev::RegistryObserver {
 public:
  explicit Notifications(bdev::Registry& registry);
  ~Notifications() override;

  struct Event {
    uint64_t id;  // counts from 0
    const char* type;
    std::string context;  // the bdev's name
  };
  /// Those kept, oldest first.
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

/// notify_get_types, notify_get_notifications.
void RegisterNotifyRpc(RpcServer& server, const Notifications& notifications);

}  // namespace sma::target::rpc
