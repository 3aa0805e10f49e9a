// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "base/errno_or.h"
#include "storage_target/bdev/registry.h"
#include "storage_target/bdev_modules/iscsi/session.h"

namespace sma::storage_target::bdev_iscsi {

/// The options of bdev_iscsi_set_options.
struct ModuleOptions {
  std::chrono::seconds timeout{30};  // of an I/O, even while the portal is unreachable; 0: none
};

/// The bdevs of iSCSI logical units. Used only on the control reactor; destroyed before the
/// registry.
class IscsiModule : private bdev::RegistryObserver {
 public:
  explicit IscsiModule(bdev::Registry& registry);
  ~IscsiModule() override;
  IscsiModule(const IscsiModule&) = delete;
  IscsiModule& operator=(const IscsiModule&) = delete;

  const ModuleOptions& options() const { return options_; }
  /// Applies to bdevs that are created later.
  void SetOptions(const ModuleOptions& options) { options_ = options; }

  struct CreateOptions {
    std::string name;
    std::string url;
    std::string initiator_iqn;
  };
  /// Receives the bdev's name or an error: EINVAL if the URL or the name is invalid; EEXIST if the
  /// bdev's name is already used; EBUSY if the logical unit already has a bdev; EIO if the target
  /// cannot be reached, refuses the login, or has no such disk.
  using CreateDone = std::function<void(base::ErrnoOr<std::string> name)>;
  void Create(const CreateOptions& options, CreateDone done);

  /// Returns ENODEV without calling `done` if this module has no such bdev.
  int Delete(const std::string& name, std::function<void()> done);

 private:
  class Creation;

  void SaveConfig(std::vector<bdev::ConfigCall>& calls) const;

  void OnBdevUnregistered(bdev::Bdev& bdev) override;
  void EndCreation(const Creation& creation);

  bdev::Registry& registry_;
  ModuleOptions options_;
  std::list<std::unique_ptr<Creation>> creations_;
};

}  // namespace sma::storage_target::bdev_iscsi
