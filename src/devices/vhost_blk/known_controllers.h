#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/mutex.h"

namespace sma::vhost_blk {

/// Which controllers the target had when it was last asked, and their bdevs. Tells for which names
/// the target need not be asked again before a device is made, and who uses a bdev. Thread-safe.
class KnownControllers {
 public:
  using BdevNames = std::map<std::string, std::string, std::less<>>;  // by controller

  /// `generation`: of the connection that the list came by.
  void Replace(uint64_t generation, BdevNames controllers) {
    base::MutexLock lock(mutex_);
    generation_ = generation;
    controllers_ = std::move(controllers);
  }
  /// `bdev_name` is empty where it is not known.
  void Add(const std::string& controller, const std::string& bdev_name) {
    base::MutexLock lock(mutex_);
    controllers_[controller] = bdev_name;
  }
  void Remove(const std::string& controller) {
    base::MutexLock lock(mutex_);
    controllers_.erase(controller);
  }

  /// False when the target may have a controller of this name, as far as connection `generation`
  /// knows.
  bool IsAbsent(uint64_t generation, std::string_view controller) const {
    base::MutexLock lock(mutex_);
    return generation_ == generation && !controllers_.contains(controller);
  }

  /// A controller other than `controller` that has this bdev.
  std::optional<std::string> OtherUserOf(std::string_view bdev_name,
                                         std::string_view controller) const {
    base::MutexLock lock(mutex_);
    for (const auto& [name, bdev] : controllers_) {
      if (bdev == bdev_name && name != controller) return name;
    }
    return std::nullopt;
  }

 private:
  mutable base::Mutex mutex_;
  uint64_t generation_ SMA_GUARDED_BY(mutex_) = 0;  // 0: never asked
  BdevNames controllers_ SMA_GUARDED_BY(mutex_);
};

}  // namespace sma::vhost_blk
