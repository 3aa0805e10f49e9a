// SPDX-License-Identifier: Apache-2.0

#include "agent/core/watchers.h"

#include <utility>

namespace sma::core {

using base::MutexLock;

class Watchers::Watch : public api::Subscription {
 public:
  Watch(std::shared_ptr<Watchers> watchers, uint64_t id, Initial initial)
      : watchers_(std::move(watchers)), id_(id), initial_(std::move(initial)) {}
  ~Watch() override { watchers_->Remove(id_); }

  std::shared_ptr<const admin::v1::WatchResponse> NextInitial() override {
    return initial_ ? initial_() : nullptr;
  }

 private:
  const std::shared_ptr<Watchers> watchers_;
  const uint64_t id_;
  const Initial initial_;
};

std::unique_ptr<api::Subscription> Watchers::Add(std::string device_handle, api::WatchSink sink,
                                                 Initial initial) {
  MutexLock lock(mutex_);
  const uint64_t id = next_id_++;
  watchers_.emplace(id,
                    Watcher{.device_handle = std::move(device_handle), .sink = std::move(sink)});
  return std::make_unique<Watch>(shared_from_this(), id, std::move(initial));
}

void Watchers::Publish(const std::string& device_handle,
                       std::shared_ptr<const admin::v1::WatchResponse> change) {
  MutexLock lock(mutex_);
  for (auto& [id, watcher] : watchers_) {
    if (!watcher.device_handle.empty() && watcher.device_handle != device_handle) continue;
    watcher.sink(change);
  }
}

void Watchers::PublishToAll(std::shared_ptr<const admin::v1::WatchResponse> change) {
  MutexLock lock(mutex_);
  for (auto& [id, watcher] : watchers_) watcher.sink(change);
}

bool Watchers::any() const {
  MutexLock lock(mutex_);
  return !watchers_.empty();
}

std::set<std::string> Watchers::handles() const {
  MutexLock lock(mutex_);
  std::set<std::string> handles;
  for (const auto& [id, watcher] : watchers_) {
    if (!watcher.device_handle.empty()) handles.insert(watcher.device_handle);
  }
  return handles;
}

void Watchers::Remove(uint64_t id) {
  MutexLock lock(mutex_);
  watchers_.erase(id);
}

}  // namespace sma::core
