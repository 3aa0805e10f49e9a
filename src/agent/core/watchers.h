#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "agent/service/agent_api.h"
#include "base/mutex.h"

namespace sma::core {

/// Those who watch what changes. Thread-safe.
class Watchers : public std::enable_shared_from_this<Watchers> {
 public:
  /// The initial state, a piece at each call; null: there is no more.
  using Initial = std::function<std::shared_ptr<const admin::v1::WatchResponse>()>;

  /// Passes on all that is told about `device_handle` (empty: everything) from the time of the call
  /// on. `initial` is what the subscription gives out.
  std::unique_ptr<service::Subscription> Add(std::string device_handle, service::WatchSink sink,
                                             Initial initial);

  /// `device_handle`: of the device that `change` is about; empty: of none in particular.
  void Tell(const std::string& device_handle,
            std::shared_ptr<const admin::v1::WatchResponse> change);

  /// For changes of which it is not known which device they are about.
  void TellAll(std::shared_ptr<const admin::v1::WatchResponse> change);

  bool any() const;

 private:
  class Watch;
  struct Watcher {
    std::string device_handle;
    service::WatchSink sink;
  };

  void Remove(uint64_t id);

  mutable base::Mutex mutex_;  // held while sinks run: they do not block
  uint64_t next_id_ SMA_GUARDED_BY(mutex_) = 1;
  std::map<uint64_t, Watcher> watchers_ SMA_GUARDED_BY(mutex_);
};

}  // namespace sma::core
