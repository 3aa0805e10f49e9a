#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "base/errno_or.h"
#include "target/bdev/registry.h"
#include "target/bdev_modules/iscsi/session.h"

namespace sma::target::bdev_iscsi {

/// bdev_iscsi_set_options.
struct ModuleOptions {
  std::chrono::seconds timeout{30};  // of an I/O, also while the portal is away; 0: none
};

/// The bdevs on iSCSI targets. In the control reactor; destroyed before the registry.
class IscsiModule : private bdev::RegistryObserver {
 public:
  explicit IscsiModule(bdev::Registry& registry);
  ~IscsiModule() override;
  IscsiModule(const IscsiModule&) = delete;
  IscsiModule& operator=(const IscsiModule&) = delete;

  const ModuleOptions& options() const { return options_; }
  /// For bdevs made from now on.
  void SetOptions(const ModuleOptions& options) { options_ = options; }

  struct CreateOptions {
    std::string name;
    std::string url;
    std::string initiator_iqn;
  };
  /// Gets the bdev's name, or EINVAL: not a URL or name that can be used; EEXIST: the bdev's name
  /// is taken; EBUSY: the logical unit has a bdev already; EIO: the target cannot be reached, does
  /// not let us in, or has no such disk.
  using CreateDone = std::function<void(base::ErrnoOr<std::string> name)>;
  void Create(const CreateOptions& options, CreateDone done);

  /// ENODEV when there is no such bdev of this module; `done` is not called then.
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

}  // namespace sma::target::bdev_iscsi
