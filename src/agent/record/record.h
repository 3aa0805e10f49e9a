#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/record/rows.h"
#include "agent/record/store.h"
#include "base/event.h"
#include "base/mutex.h"

namespace sma::record {

/// What exists and for whom: all devices and volumes of the agent, in memory and in a store. A row
/// is written as intended before the target is touched and as done afterwards. Thread-safe; readers
/// never wait for the store.
class Record {
 public:
  /// Reads all rows from `store`.
  static absl::StatusOr<std::unique_ptr<Record>> Open(std::unique_ptr<Store> store);

  /// Writes `change`, all of it or nothing, and returns when it is as durable as asked. Readers see
  /// it when this has returned OK. Blocks; what several callers write meanwhile goes to the store
  /// in one commit. Errors as Store::Commit.
  absl::Status Write(Change change, Durability durability);

  std::optional<Device> FindDevice(std::string_view handle) const;
  std::optional<Volume> FindVolume(const base::Uuid& id) const;
  std::optional<QosLimit> FindLimits(const base::Uuid& volume_id) const;
  /// Volumes of a device in the order of their ids.
  std::vector<Volume> VolumesOf(std::string_view handle) const;
  /// In the order of their handles and ids: up to `limit`, from the first that is greater than
  /// `after`.
  std::vector<Device> Devices(std::string_view after = {}, size_t limit = SIZE_MAX) const;
  std::vector<Volume> Volumes(std::optional<base::Uuid> after = std::nullopt,
                              size_t limit = SIZE_MAX) const;
  /// Volumes with limits that have not been attached since before `time`, and the oldest of those
  /// that are more than `max_count`.
  std::vector<base::Uuid> LimitsDetachedBefore(Time time, size_t max_count) const;
  size_t device_count() const;
  size_t volume_count() const;

  /// Grows with every change.
  uint64_t revision() const;
  /// Whether the device or one of its volumes was changed, or the device removed, after the record
  /// had `revision`.
  bool ChangedSince(std::string_view handle, uint64_t revision) const;

  /// Called with each change as soon as readers see it, one at a time and in order, before Write
  /// returns. May read the record; must not block or write. Set it before other threads start.
  void SetObserver(std::function<void(const Change&)> observer);

 private:
  struct Writer {
    const Change* change;
    Durability durability;
    bool done = false;
    absl::Status status;
    base::Event turn;  // done, or first in the queue
  };

  explicit Record(std::unique_ptr<Store> store) : store_(std::move(store)) {}

  void CommitAll(const std::vector<Writer*>& batch) SMA_EXCLUDES(mutex_);
  void Apply(const Change& change) SMA_REQUIRES(mutex_);
  void PutVolume(const Volume& volume) SMA_REQUIRES(mutex_);
  void RemoveVolume(const base::Uuid& id) SMA_REQUIRES(mutex_);

  // Used only by the writer that is first in the queue, without the lock.
  const std::unique_ptr<Store> store_;
  std::function<void(const Change&)> observer_;

  mutable base::Mutex mutex_;
  std::deque<Writer*> writers_ SMA_GUARDED_BY(mutex_);
  std::map<std::string, Device, std::less<>> devices_ SMA_GUARDED_BY(mutex_);
  std::map<base::Uuid, Volume> volumes_ SMA_GUARDED_BY(mutex_);
  std::map<std::string, std::set<base::Uuid>, std::less<>> volumes_of_ SMA_GUARDED_BY(mutex_);
  std::unordered_map<base::Uuid, QosLimit> limits_ SMA_GUARDED_BY(mutex_);
  std::map<base::Uuid, Time> detached_limits_ SMA_GUARDED_BY(mutex_);  // of volumes not attached
  uint64_t revision_ SMA_GUARDED_BY(mutex_) = 0;
  // The revision in which each device or one of its volumes was last changed.
  std::map<std::string, uint64_t, std::less<>> changed_ SMA_GUARDED_BY(mutex_);
};

}  // namespace sma::record
