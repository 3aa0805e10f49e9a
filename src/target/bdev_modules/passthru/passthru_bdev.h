#pragma once

#include <functional>
#include <string>

#include "base/uuid.h"
#include "target/bdev/registry.h"
#include "target/bdev/stacked.h"

namespace sma::target::bdev_modules {

/// Bdevs that hand every I/O to the bdev below: a second name for it, and the pattern for modules
/// that do something on the way. Control reactor only; outlived by the registry.
class PassthruModule {
 public:
  explicit PassthruModule(bdev::Registry& registry) : registry_(registry), list_(registry) {}

  /// 0, also when the base does not exist yet (it is made when that comes). EEXIST: the name or
  /// UUID is taken; EPERM: the base is claimed. A nil UUID becomes one made from the base's, the
  /// same as SPDK makes.
  int Create(const std::string& name, const std::string& base_name, const base::Uuid& uuid);
  /// ENODEV, and `done` is not called; else as Registry::Unregister.
  int Delete(const std::string& name, std::function<void()> done);

 private:
  int Make(const std::string& name, const std::string& base_name, const base::Uuid& uuid);

  bdev::Registry& registry_;
  bdev::StackedList list_;
};

}  // namespace sma::target::bdev_modules
