#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "target/bdev/registry.h"
#include "target/vhost_user/controller.h"

namespace sma::target::vhost_user {

/// All virtio-blk devices of the target. Control reactor only. Errors are positive errno values.
class ControllerTable final : private bdev::RegistryObserver {
 public:
  /// `reactors`, at least one, do the I/O. Sockets are made in `socket_folder`.
  ControllerTable(bdev::Registry& registry, std::vector<Reactor*> reactors,
                  std::string socket_folder);
  /// After Close has ended, or while there are no sessions.
  ~ControllerTable() override;
  ControllerTable(const ControllerTable&) = delete;
  ControllerTable& operator=(const ControllerTable&) = delete;

  struct Params {
    std::string name;
    std::string bdev_name;
    bool read_only = false;
    bool packed_ring = false;
    /// The cores whose reactors it may use; nullopt: all.
    std::optional<std::vector<int>> cores = {};
  };

  /// EEXIST: there is one of that name. EINVAL: a name that is empty, "." or "..", or has
  /// slashes or control characters; or no reactor on those cores. Else as Controller::Create.
  int Create(const Params& params);
  /// ENODEV: no such controller. EBUSY: a front end is connected, or was and something of it is
  /// still under way.
  int Delete(std::string_view name);
  /// nullptr when there is none.
  const Controller* Find(std::string_view name) const;
  /// In the order of their creation.
  std::vector<const Controller*> List() const;

  /// Ends all sessions and removes all controllers; then `done`, never in here.
  void Close(std::function<void()> done);

 private:
  void OnBdevRegistered(bdev::Bdev& bdev) override;

  bdev::Registry& registry_;
  const std::vector<Reactor*> reactors_;
  const std::string socket_folder_;
  std::vector<std::unique_ptr<Controller>> controllers_;
  size_t next_reactor_ = 0;
};

/// The number of a reactor's core; of one that may run on any, its place among the reactors.
int CoreOf(const Reactor& reactor);

}  // namespace sma::target::vhost_user
