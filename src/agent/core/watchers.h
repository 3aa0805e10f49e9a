// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "agent/api/agent_api.h"
#include "base/mutex.h"

namespace sma::core {

/// The watchers of the admin service. Thread-safe.
class Watchers : public std::enable_shared_from_this<Watchers> {
 public:
  /// Returns the next part of the initial state; null after the last one.
  using Initial = std::function<std::shared_ptr<const admin::v1::WatchResponse>()>;

  /// Starts forwarding all messages about `device_handle`, or all messages if it is empty.
  /// `initial` supplies the subscription's initial state.
  std::unique_ptr<api::Subscription> Add(std::string device_handle, api::WatchSink sink,
                                         Initial initial);

  /// Sends a change to the watchers of `device_handle`, the device that it concerns; empty if it
  /// concerns no particular device.
  void Publish(const std::string& device_handle,
               std::shared_ptr<const admin::v1::WatchResponse> change);

  /// Sends a change to all watchers, if it is not known which device it is about.
  void PublishToAll(std::shared_ptr<const admin::v1::WatchResponse> change);

  bool any() const;
  /// Returns the devices that have watchers of their own.
  std::set<std::string> handles() const;

 private:
  class Watch;
  struct Watcher {
    std::string device_handle;
    api::WatchSink sink;
  };

  void Remove(uint64_t id);

  mutable base::Mutex mutex_;  // held while sinks run, which do not block
  uint64_t next_id_ SMA_GUARDED_BY(mutex_) = 1;
  std::map<uint64_t, Watcher> watchers_ SMA_GUARDED_BY(mutex_);
};

}  // namespace sma::core
