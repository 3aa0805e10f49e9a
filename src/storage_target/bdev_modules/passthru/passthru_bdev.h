// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <functional>
#include <string>

#include "base/uuid.h"
#include "storage_target/bdev/registry.h"
#include "storage_target/bdev/stacked.h"

namespace sma::storage_target::bdev_passthru {

/// Creates bdevs that pass every I/O to the bdev below: they give it a second name and are an
/// example for modules that process I/O. Used only on the control reactor; the registry outlives
/// it.
class PassthruModule {
 public:
  explicit PassthruModule(bdev::Registry& registry) : registry_(registry), list_(registry) {}

  /// Returns 0 even if the base does not exist yet; the bdev is then created when the base appears.
  /// Errors: EEXIST if the name or UUID is already used; EPERM if the base is claimed. A nil UUID
  /// is replaced by one derived from the base's UUID in the same way as in SPDK.
  int Create(const std::string& name, const std::string& base_name, const base::Uuid& uuid);
  /// Returns ENODEV without calling `done` if there is no such bdev; otherwise behaves like
  /// Registry::Unregister.
  int Delete(const std::string& name, std::function<void()> done);

 private:
  int Make(const std::string& name, const std::string& base_name, const base::Uuid& uuid);

  bdev::Registry& registry_;
  bdev::StackedList list_;
};

}  // namespace sma::storage_target::bdev_passthru
