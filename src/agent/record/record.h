// SPDX-License-Identifier: Apache-2.0

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
#include "base/context.h"
#include "base/event.h"
#include "base/mutex.h"

namespace sma::record {

struct DeviceRevision {
  std::string handle;
  uint64_t revision = 0;
};

/// The agent's database of devices, volumes and limits, in memory and in a store. A row is written
/// as an intent before the target is changed, and as complete afterwards. Thread-safe; readers
/// never wait for the store.
class Record {
 public:
  /// Reads all rows from `store`. Returns the errors of Store::Load.
  static absl::StatusOr<std::unique_ptr<Record>> Open(std::unique_ptr<Store> store);

  /// Writes `change` completely or not at all, and returns when it is as durable as `durability`
  /// says. Readers see the change once this has returned OK. Blocks; the changes of callers that
  /// wait at the same time are committed together. Returns the errors of Store::Commit.
  absl::Status Write(Change change, Durability durability);

  /// Writes the change that `make` returns. `make` is called when all earlier changes are visible,
  /// and no other change is made before this one: for callers that change parts of rows whose locks
  /// they do not hold. `make` may read the record; it must not block or write. An empty change is
  /// allowed and is not written. Blocks, and returns errors, in the same way as Write.
  absl::Status Update(std::function<Change()> make, Durability durability);

  std::optional<Device> FindDevice(std::string_view handle) const;
  std::optional<Volume> FindVolume(const base::Uuid& id) const;
  std::optional<QosLimit> FindLimits(const base::Uuid& volume_id) const;
  /// Returns the volumes of a device, ordered by id.
  std::vector<Volume> VolumesOf(std::string_view handle) const;
  /// Calls `matches` with the volumes of a device, ordered by id, until it returns true; returns
  /// false if it never does. `matches` runs under the record's lock, like `visit` below.
  bool AnyVolumeOf(std::string_view handle,
                   const std::function<bool(const Volume&)>& matches) const;
  /// Return up to `limit` rows ordered by handle or id, beginning with the first one greater than
  /// `after`.
  std::vector<Device> Devices(std::string_view after = {}, size_t limit = SIZE_MAX) const;
  std::vector<Volume> Volumes(std::optional<base::Uuid> after = std::nullopt,
                              size_t limit = SIZE_MAX) const;
  /// Returns all devices of one manager, ordered by handle, each with the revision in which the
  /// device or one of its volumes was last changed.
  std::vector<DeviceRevision> DeviceRevisions(std::string_view manager) const;
  /// Call `visit` with each row, ordered by handle or id, without copying the row. `visit` runs
  /// under the record's lock: it must be short and must not call the record.
  void VisitDevices(const std::function<void(const Device&)>& visit) const;
  void VisitVolumes(const std::function<void(const Volume&)>& visit) const;
  /// Returns the volumes whose limits should no longer be kept: those detached before `time` and,
  /// if more than `max_count` detached volumes have limits, the ones that were detached first.
  std::vector<base::Uuid> LimitsDetachedBefore(Time time, size_t max_count) const;
  size_t device_count() const;
  size_t volume_count() const;

  /// Whether the store can be written, as the last commit has shown.
  struct Writability {
    absl::Status status;      // of the last commit
    Time since;               // when it became writable or not writable; at most since Open()
    base::TimePoint checked;  // the last commit
  };
  Writability writability() const;
  /// Makes a change that leaves nothing behind, to find out whether the store can be written.
  /// Blocks, and returns errors, in the same way as Write.
  absl::Status CheckWritable();
  /// `observer` is called, by a thread that writes, when the store becomes writable or not
  /// writable. It must not block, and must not use the record. Call this before other threads
  /// start.
  void SetWritabilityObserver(std::function<void()> observer);

  /// Increases with every change.
  uint64_t revision() const;
  /// Returns true if the device does not exist, or if it or one of its volumes was changed after
  /// `revision`.
  bool ChangedSince(std::string_view handle, uint64_t revision) const;

  /// Returns the revision in which the device or one of its volumes was last changed; 0 if the
  /// device does not exist.
  uint64_t RevisionOf(std::string_view handle) const;

  /// `observer` is called with each change once readers see it and before Write returns: one call
  /// at a time, in the order of the changes. It may read the record; it must not block or write.
  /// Call this before other threads start.
  void SetObserver(std::function<void(const Change&)> observer);

 private:
  struct Writer {
    Change change;
    Durability durability;
    std::function<Change()> make{};  // if set, returns `change` at this writer's turn
    bool is_check = false;           // `change` has no effect
    bool done = false;
    absl::Status status;
    base::Event turn;  // set when done, or first in the queue
  };

  explicit Record(std::unique_ptr<Store> store) : store_(std::move(store)) {}

  void NoteCommit(const absl::Status& status) SMA_EXCLUDES(mutex_);
  absl::Status WriteInTurn(Writer& self) SMA_EXCLUDES(mutex_);
  std::vector<Writer*> TakeBatch() SMA_EXCLUDES(mutex_);
  void CommitAll(const std::vector<Writer*>& batch) SMA_EXCLUDES(mutex_);
  void Apply(const Change& change) SMA_REQUIRES(mutex_);
  void PutVolume(const Volume& volume) SMA_REQUIRES(mutex_);
  void RemoveVolume(const base::Uuid& id) SMA_REQUIRES(mutex_);

  // Used only by the writer that is first in the queue, without the lock.
  const std::unique_ptr<Store> store_;
  std::function<void(const Change&)> observer_;
  std::function<void()> writability_observer_;

  mutable base::Mutex mutex_;
  std::deque<Writer*> writers_ SMA_GUARDED_BY(mutex_);
  std::map<std::string, Device, std::less<>> devices_ SMA_GUARDED_BY(mutex_);
  std::map<base::Uuid, Volume> volumes_ SMA_GUARDED_BY(mutex_);
  std::map<std::string, std::set<base::Uuid>, std::less<>> volumes_of_ SMA_GUARDED_BY(mutex_);
  std::unordered_map<base::Uuid, QosLimit> limits_ SMA_GUARDED_BY(mutex_);
  std::map<base::Uuid, Time> detached_limits_ SMA_GUARDED_BY(mutex_);  // when volumes were detached
  Writability writability_ SMA_GUARDED_BY(mutex_);
  uint64_t revision_ SMA_GUARDED_BY(mutex_) = 0;
  // For each device, the revision in which it or one of its volumes was last changed.
  std::map<std::string, uint64_t, std::less<>> changed_ SMA_GUARDED_BY(mutex_);
};

}  // namespace sma::record
