// SPDX-License-Identifier: Apache-2.0

#include "agent/record/record.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace sma::record {

using base::MutexLock;

absl::StatusOr<std::unique_ptr<Record>> Record::Open(std::unique_ptr<Store> store) {
  std::unique_ptr<Record> record(new Record(std::move(store)));
  absl::StatusOr<Contents> contents = record->store_->Load();
  if (!contents.ok()) return contents.status();
  MutexLock lock(record->mutex_);
  record->writability_ = {.status = {},
                          .since = std::chrono::system_clock::now(),
                          .checked = std::chrono::steady_clock::now()};
  record->Apply({.put_devices = std::move(contents->devices),
                 .remove_devices = {},
                 .put_volumes = std::move(contents->volumes),
                 .remove_volumes = {},
                 .put_limits = std::move(contents->limits),
                 .remove_limits = {}});
  return record;
}

absl::Status Record::Write(Change change, Durability durability) {
  Writer self{.change = std::move(change), .durability = durability, .status = {}, .turn = {}};
  return WriteInTurn(self);
}

absl::Status Record::Update(std::function<Change()> make, Durability durability) {
  Writer self{
      .change = {}, .durability = durability, .make = std::move(make), .status = {}, .turn = {}};
  return WriteInTurn(self);
}

// A row is put and removed again in one transaction, so that the store is written but not changed.
absl::Status Record::CheckWritable() {
  Writer self{
      .change = {}, .durability = Durability::kProcess, .is_check = true, .status = {}, .turn = {}};
  const base::Uuid id = *base::Uuid::Parse("6d1f0c5e-8a53-4b21-9a44-0d1c7e2b9f36");  // of nothing
  self.change.put_limits.push_back({.volume_id = id, .limits = {}});
  self.change.remove_limits.push_back(id);
  return WriteInTurn(self);
}

absl::Status Record::WriteInTurn(Writer& self) {
  bool first = false;
  {
    MutexLock lock(mutex_);
    writers_.push_back(&self);
    first = writers_.front() == &self;
  }
  if (!first) self.turn.Wait();
  if (self.done) return self.status;

  // This writer is the first in the queue: it commits its own change and those queued behind it.
  const std::vector<Writer*> batch = TakeBatch();
  CommitAll(batch);
  Writer* next = nullptr;
  {
    MutexLock lock(mutex_);
    writers_.erase(writers_.begin(), writers_.begin() + static_cast<ptrdiff_t>(batch.size()));
    if (!writers_.empty()) next = writers_.front();
  }
  // Notified without the lock held, since the woken writers may need it next. A writer may be
  // destroyed as soon as it is notified.
  if (next != nullptr) next->turn.Set();
  const absl::Status status = self.status;
  for (Writer* writer : batch) {
    if (writer != &self) writer->turn.Set();
  }
  return status;
}

// Returns the writers that commit together. A writer with `make` commits alone, because `make` must
// see all earlier changes applied.
std::vector<Record::Writer*> Record::TakeBatch() {
  std::vector<Writer*> batch;
  {
    MutexLock lock(mutex_);
    for (Writer* writer : writers_) {
      const bool is_alone = writer->make || writer->is_check;
      if (is_alone && !batch.empty()) break;
      batch.push_back(writer);
      if (is_alone) break;
    }
  }
  Writer& first = *batch.front();
  if (first.make) first.change = first.make();
  return batch;
}

// Called by the writer that is first in the queue.
void Record::CommitAll(const std::vector<Writer*>& batch) {
  std::vector<const Change*> changes;
  Durability needed = Durability::kProcess;
  for (const Writer* writer : batch) {
    changes.push_back(&writer->change);
    needed = std::max(needed, writer->durability);
  }
  const bool is_nothing = batch.size() == 1 && batch.front()->make && IsEmpty(*changes.front());
  const absl::Status status = is_nothing ? absl::OkStatus() : store_->Commit(changes, needed);
  if (!is_nothing) NoteCommit(status);
  if (is_nothing || batch.front()->is_check) changes.clear();
  if (status.ok()) {
    MutexLock lock(mutex_);
    for (const Change* committed : changes) Apply(*committed);
  }
  // This writer is still the first in the queue, so the observer sees one change at a time.
  if (status.ok() && observer_) {
    for (const Change* committed : changes) observer_(*committed);
  }
  for (Writer* writer : batch) {
    writer->status = status;
    writer->done = true;
  }
}

void Record::NoteCommit(const absl::Status& status) {
  bool has_changed = false;
  {
    MutexLock lock(mutex_);
    has_changed = status.ok() != writability_.status.ok();
    writability_.status = status;
    writability_.checked = std::chrono::steady_clock::now();
    if (has_changed) writability_.since = std::chrono::system_clock::now();
  }
  if (has_changed && writability_observer_) writability_observer_();
}

Record::Writability Record::writability() const {
  MutexLock lock(mutex_);
  return writability_;
}

void Record::SetWritabilityObserver(std::function<void()> observer) {
  writability_observer_ = std::move(observer);
}

void Record::Apply(const Change& change) {
  ++revision_;
  for (const Device& device : change.put_devices) {
    devices_.insert_or_assign(device.handle, device);
    changed_[device.handle] = revision_;
  }
  for (const std::string& handle : change.remove_devices) {
    devices_.erase(handle);
    changed_.erase(handle);
  }
  for (const Volume& volume : change.put_volumes) PutVolume(volume);
  for (const base::Uuid& id : change.remove_volumes) RemoveVolume(id);
  for (const VolumeLimits& limits : change.put_limits) {
    limits_.insert_or_assign(limits.volume_id, limits.limits);
    detached_limits_.erase(limits.volume_id);
    if (limits.detached != Time()) detached_limits_.emplace(limits.volume_id, limits.detached);
  }
  for (const base::Uuid& id : change.remove_limits) {
    limits_.erase(id);
    detached_limits_.erase(id);
  }
}

void Record::PutVolume(const Volume& volume) {
  RemoveVolume(volume.id);
  volumes_.insert_or_assign(volume.id, volume);
  volumes_of_[volume.device_handle].insert(volume.id);
  changed_[volume.device_handle] = revision_;
}

void Record::RemoveVolume(const base::Uuid& id) {
  auto found = volumes_.find(id);
  if (found == volumes_.end()) return;
  const std::string& handle = found->second.device_handle;
  auto of_device = volumes_of_.find(handle);
  of_device->second.erase(id);
  if (of_device->second.empty()) volumes_of_.erase(of_device);
  if (devices_.contains(handle)) changed_[handle] = revision_;
  volumes_.erase(found);
}

std::optional<Device> Record::FindDevice(std::string_view handle) const {
  MutexLock lock(mutex_);
  auto found = devices_.find(handle);
  return found == devices_.end() ? std::nullopt : std::optional(found->second);
}

std::optional<Volume> Record::FindVolume(const base::Uuid& id) const {
  MutexLock lock(mutex_);
  auto found = volumes_.find(id);
  return found == volumes_.end() ? std::nullopt : std::optional(found->second);
}

std::optional<QosLimit> Record::FindLimits(const base::Uuid& volume_id) const {
  MutexLock lock(mutex_);
  auto found = limits_.find(volume_id);
  return found == limits_.end() ? std::nullopt : std::optional(found->second);
}

std::vector<Volume> Record::VolumesOf(std::string_view handle) const {
  MutexLock lock(mutex_);
  std::vector<Volume> volumes;
  auto found = volumes_of_.find(handle);
  if (found == volumes_of_.end()) return volumes;
  for (const base::Uuid& id : found->second) volumes.push_back(volumes_.at(id));
  return volumes;
}

bool Record::AnyVolumeOf(std::string_view handle,
                         const std::function<bool(const Volume&)>& matches) const {
  MutexLock lock(mutex_);
  auto found = volumes_of_.find(handle);
  if (found == volumes_of_.end()) return false;
  for (const base::Uuid& id : found->second) {
    if (matches(volumes_.at(id))) return true;
  }
  return false;
}

std::vector<Device> Record::Devices(std::string_view after, size_t limit) const {
  MutexLock lock(mutex_);
  std::vector<Device> devices;
  for (auto it = devices_.upper_bound(after); it != devices_.end() && devices.size() < limit;
       ++it) {
    devices.push_back(it->second);
  }
  return devices;
}

std::vector<Volume> Record::Volumes(std::optional<base::Uuid> after, size_t limit) const {
  MutexLock lock(mutex_);
  std::vector<Volume> volumes;
  for (auto it = after ? volumes_.upper_bound(*after) : volumes_.begin();
       it != volumes_.end() && volumes.size() < limit; ++it) {
    volumes.push_back(it->second);
  }
  return volumes;
}

std::vector<DeviceRevision> Record::DeviceRevisions(std::string_view manager) const {
  MutexLock lock(mutex_);
  std::vector<DeviceRevision> revisions;
  for (const auto& [handle, device] : devices_) {
    if (device.manager == manager) revisions.push_back({handle, changed_.find(handle)->second});
  }
  return revisions;
}

void Record::VisitDevices(const std::function<void(const Device&)>& visit) const {
  MutexLock lock(mutex_);
  for (const auto& [handle, device] : devices_) visit(device);
}

void Record::VisitVolumes(const std::function<void(const Volume&)>& visit) const {
  MutexLock lock(mutex_);
  for (const auto& [id, volume] : volumes_) visit(volume);
}

std::vector<base::Uuid> Record::LimitsDetachedBefore(Time time, size_t max_count) const {
  std::vector<std::pair<Time, base::Uuid>> oldest_first;
  {
    MutexLock lock(mutex_);
    for (const auto& [id, detached] : detached_limits_) oldest_first.emplace_back(detached, id);
  }
  std::sort(oldest_first.begin(), oldest_first.end());
  std::vector<base::Uuid> ids;
  for (const auto& [detached, id] : oldest_first) {
    if (detached >= time && oldest_first.size() - ids.size() <= max_count) break;
    ids.push_back(id);
  }
  return ids;
}

size_t Record::device_count() const {
  MutexLock lock(mutex_);
  return devices_.size();
}

size_t Record::volume_count() const {
  MutexLock lock(mutex_);
  return volumes_.size();
}

uint64_t Record::revision() const {
  MutexLock lock(mutex_);
  return revision_;
}

bool Record::ChangedSince(std::string_view handle, uint64_t revision) const {
  MutexLock lock(mutex_);
  auto found = changed_.find(handle);
  return found == changed_.end() || found->second > revision;
}

uint64_t Record::RevisionOf(std::string_view handle) const {
  MutexLock lock(mutex_);
  auto found = changed_.find(handle);
  return found == changed_.end() ? 0 : found->second;
}

void Record::SetObserver(std::function<void(const Change&)> observer) {
  observer_ = std::move(observer);
}

bool SameConnection(const Volume& a, const Volume& b) {
  return a.connection == b.connection && a.bdev_name == b.bdev_name && a.sealed == b.sealed &&
         a.layer_key == b.layer_key && a.params.SerializeAsString() == b.params.SerializeAsString();
}

}  // namespace sma::record
