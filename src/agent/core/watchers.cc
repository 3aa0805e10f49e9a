#include "agent/core/watchers.h"

#include <utility>

namespace sma::core {

using base::MutexLock;

class Watchers::Watch : public service::Subscription {
 public:
  Watch(std::shared_ptr<Watchers> watchers, uint64_t id)
      : watchers_(std::move(watchers)), id_(id) {}
  ~Watch() override { watchers_->Remove(id_); }

 private:
  const std::shared_ptr<Watchers> watchers_;
  const uint64_t id_;
};

std::unique_ptr<service::Subscription> Watchers::Add(
    std::string device_handle, service::WatchSink sink,
    const std::function<void(const service::WatchSink&)>& begin) {
  uint64_t id = 0;
  {
    MutexLock lock(mutex_);
    id = next_id_++;
    watchers_.emplace(id, Watcher{.device_handle = std::move(device_handle),
                                  .sink = sink,
                                  .begun = false,
                                  .waiting = {}});
  }
  begin(sink);
  MutexLock lock(mutex_);
  Watcher& watcher = watchers_.at(id);
  for (auto& change : watcher.waiting) watcher.sink(std::move(change));
  watcher.waiting.clear();
  watcher.begun = true;
  return std::make_unique<Watch>(shared_from_this(), id);
}

void Watchers::Tell(const std::string& device_handle,
                    std::shared_ptr<const admin::v1::WatchResponse> change) {
  MutexLock lock(mutex_);
  for (auto& [id, watcher] : watchers_) {
    if (!watcher.device_handle.empty() && watcher.device_handle != device_handle) continue;
    Pass(watcher, change);
  }
}

void Watchers::TellAll(std::shared_ptr<const admin::v1::WatchResponse> change) {
  MutexLock lock(mutex_);
  for (auto& [id, watcher] : watchers_) Pass(watcher, change);
}

void Watchers::Pass(Watcher& watcher,
                    const std::shared_ptr<const admin::v1::WatchResponse>& change) {
  if (watcher.begun) {
    watcher.sink(change);
  } else {
    watcher.waiting.push_back(change);
  }
}

bool Watchers::any() const {
  MutexLock lock(mutex_);
  return !watchers_.empty();
}

void Watchers::Remove(uint64_t id) {
  MutexLock lock(mutex_);
  watchers_.erase(id);
}

}  // namespace sma::core
