// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/spdk/bdev.h"
#include "agent/spdk/vhost.h"
#include "devices/pci_common/inventories.h"
#include "sma/device_manager.h"

namespace sma::vhost_blk {

/// The target's controllers with their bdevs at one time. Immutable, except for vms().
class Listing : public DeviceListing {
 public:
  /// `bdevs` are the bdevs of the controllers.
  Listing(std::vector<spdk::VhostController> controllers, std::vector<spdk::Bdev> bdevs);

  /// Returns the controllers by name.
  const std::map<std::string, spdk::VhostController>& controllers() const { return controllers_; }
  std::optional<spdk::VhostController> FindController(const std::string& name) const;
  /// Returns the name of the bdev with the name or alias `name`; nullopt if no controller uses it.
  std::optional<std::string> FindBdevName(const std::string& name) const;
  std::optional<base::Uuid> FindUuid(const std::string& bdev_name) const;
  /// Returns a number that depends on the controller, its bdev, and the bdev's UUID and aliases; 0
  /// if the controller has none, or does not exist.
  uint64_t FingerprintOf(const std::string& controller) const;
  /// Returns the devices of VMs, which are queried when they are needed.
  pci_common::Inventories& vms() const { return *vms_; }

 private:
  struct Identity {
    base::Uuid uuid;
    size_t hash = 0;  // of UUID and aliases
  };

  std::map<std::string, spdk::VhostController> controllers_;
  std::map<std::string, std::string> bdev_names_;
  std::map<std::string, Identity> identities_;  // by the bdev's name
  const std::unique_ptr<pci_common::Inventories> vms_ = std::make_unique<pci_common::Inventories>();
};

}  // namespace sma::vhost_blk
