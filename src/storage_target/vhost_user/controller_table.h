// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "storage_target/bdev/registry.h"
#include "storage_target/vhost_user/controller.h"

namespace sma::storage_target::vhost_user {

/// All virtio-blk devices of the target. Used only on the control reactor. Errors are positive
/// errno values.
class ControllerTable final : private bdev::RegistryObserver {
 public:
  /// `reactors`, of which there must be at least one, execute the I/O. Sockets are created in
  /// `socket_folder`.
  ControllerTable(bdev::Registry& registry, std::vector<Reactor*> reactors,
                  std::string socket_folder);
  /// May be called only after Close has completed or while there are no sessions.
  ~ControllerTable() override;
  ControllerTable(const ControllerTable&) = delete;
  ControllerTable& operator=(const ControllerTable&) = delete;

  struct Params {
    std::string name;
    std::string bdev_name;
    bool read_only = false;
    bool packed_ring = false;
    /// The cores whose reactors may be used; if nullopt, all reactors may be used.
    std::optional<std::vector<int>> cores = {};
  };

  /// Creates a controller. Errors: EEXIST if a controller with this name exists; EINVAL if the name
  /// is empty, "." or "..", or contains slashes or control characters, or if there is no reactor on
  /// these cores; otherwise those of Controller::Create.
  int Create(const Params& params);
  /// Deletes a controller. Errors: ENODEV if there is no such controller; EBUSY if a front end is
  /// connected, or if requests of one that has disconnected are outstanding.
  int Delete(std::string_view name);
  /// Returns the controller with this name; nullptr if there is none.
  const Controller* Find(std::string_view name) const;
  /// Returns the controllers in the order of their creation.
  std::vector<const Controller*> List() const;

  /// Ends all sessions and removes all controllers; then calls `done`, never from within Close.
  void Close(std::function<void()> done);

 private:
  void OnBdevRegistered(bdev::Bdev& bdev) override;

  bdev::Registry& registry_;
  const std::vector<Reactor*> reactors_;
  const std::string socket_folder_;
  // Keyed by a number that increases with each creation.
  std::map<uint64_t, std::unique_ptr<Controller>> controllers_;
  std::map<std::string, uint64_t, std::less<>> numbers_;  // by name
  uint64_t last_number_ = 0;
  size_t next_reactor_ = 0;
};

/// Returns the core of a reactor; for a reactor that is not pinned to a core, its index among the
/// reactors.
int CoreOf(const Reactor& reactor);

}  // namespace sma::storage_target::vhost_user
