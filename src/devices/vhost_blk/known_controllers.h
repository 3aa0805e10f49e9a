// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "base/mutex.h"

namespace sma::vhost_blk {

/// The target's controllers and their bdevs at the last listing, which show for which names a
/// device can be created without a query, and which controller uses a bdev. Thread-safe.
class KnownControllers {
 public:
  using BdevNames = std::map<std::string, std::string, std::less<>>;  // by controller

  static constexpr size_t kFewControllers = 256;
  static constexpr std::chrono::seconds kListingPause{1};

  /// `generation` is that of the connection on which the listing was made.
  void Replace(uint64_t generation, BdevNames controllers) {
    base::MutexLock lock(mutex_);
    generation_ = generation;
    listed_at_ = std::chrono::steady_clock::now();
    users_.clear();
    controllers_ = std::move(controllers);
    for (const auto& [name, bdev] : controllers_) users_.emplace(bdev, name);
  }
  /// Adds the controllers of a listing made while controllers were created and deleted. Removes
  /// none.
  void Merge(const BdevNames& controllers) {
    base::MutexLock lock(mutex_);
    listed_at_ = std::chrono::steady_clock::now();
    for (const auto& [name, bdev] : controllers) Set(name, bdev);
  }
  /// Returns true if all controllers are to be listed when one is created: another client may have
  /// given the bdev a controller since the last listing. The size of a listing grows with the
  /// number of controllers, so from kFewControllers on one is made at most once per kListingPause.
  bool NeedsListing() const {
    base::MutexLock lock(mutex_);
    return controllers_.size() < kFewControllers ||
           std::chrono::steady_clock::now() - listed_at_ >= kListingPause;
  }
  /// `bdev_name` is empty if unknown.
  void Add(const std::string& controller, const std::string& bdev_name) {
    base::MutexLock lock(mutex_);
    Set(controller, bdev_name);
  }
  /// Adds a controller that this agent has just created.
  void AddMade(const std::string& controller, const std::string& bdev_name) {
    base::MutexLock lock(mutex_);
    Set(controller, bdev_name);
    others_.erase(controller);
  }
  /// Adds a controller that existed when this agent was about to create it.
  void AddOthers(const std::string& controller) {
    base::MutexLock lock(mutex_);
    if (!controllers_.contains(controller)) Set(controller, "");
    others_.insert(controller);
  }
  /// Returns true after AddOthers, until the controller is removed.
  bool IsOthers(const std::string& controller) const {
    base::MutexLock lock(mutex_);
    return others_.contains(controller);
  }
  void Remove(const std::string& controller) {
    base::MutexLock lock(mutex_);
    Erase(controller);
    others_.erase(controller);
  }

  /// Returns the first `limit` bdevs that are known to have a controller.
  std::set<std::string> Bdevs(size_t limit) const {
    base::MutexLock lock(mutex_);
    std::set<std::string> bdevs;
    for (const auto& [name, bdev] : controllers_) {
      if (bdevs.size() == limit) break;
      if (!bdev.empty()) bdevs.insert(bdev);
    }
    return bdevs;
  }

  /// Returns true if the listing was made on connection `generation` and has no controller with
  /// this name.
  bool IsAbsent(uint64_t generation, std::string_view controller) const {
    base::MutexLock lock(mutex_);
    return generation_ == generation && !controllers_.contains(controller);
  }

  /// Returns a controller other than `controller` that uses this bdev.
  std::optional<std::string> OtherUserOf(std::string_view bdev_name,
                                         std::string_view controller) const {
    base::MutexLock lock(mutex_);
    for (auto user = users_.lower_bound({bdev_name, {}});
         user != users_.end() && user->first == bdev_name; ++user) {
      if (user->second != controller) return std::string(user->second);
    }
    return std::nullopt;
  }

 private:
  void Set(const std::string& controller, const std::string& bdev_name) SMA_REQUIRES(mutex_) {
    Erase(controller);
    auto added = controllers_.emplace(controller, bdev_name).first;
    users_.emplace(added->second, added->first);
  }
  void Erase(const std::string& controller) SMA_REQUIRES(mutex_) {
    auto found = controllers_.find(controller);
    if (found == controllers_.end()) return;
    users_.erase({found->second, found->first});
    controllers_.erase(found);
  }

  mutable base::Mutex mutex_;
  uint64_t generation_ SMA_GUARDED_BY(mutex_) = 0;  // 0: no listing yet
  std::chrono::steady_clock::time_point listed_at_ SMA_GUARDED_BY(mutex_);
  BdevNames controllers_ SMA_GUARDED_BY(mutex_);
  // The same pairs as (bdev, controller); the texts are owned by controllers_.
  std::set<std::pair<std::string_view, std::string_view>> users_ SMA_GUARDED_BY(mutex_);
  std::set<std::string> others_ SMA_GUARDED_BY(mutex_);
};

}  // namespace sma::vhost_blk
