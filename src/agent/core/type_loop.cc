// SPDX-License-Identifier: Apache-2.0

#include "agent/core/type_loop.h"

#include <fmt/format.h>
#include <malloc.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "agent/core/limits_check.h"

namespace sma::core {

using base::MutexLock;
using std::chrono::steady_clock;

namespace {

// The longest pause before a comparison that failed is repeated.
constexpr std::chrono::nanoseconds kMaxPause = std::chrono::seconds(5);
// Time limits for queries that concern all devices of a type, and for one device, so that a
// neighbour that hangs does not block them for ever.
constexpr std::chrono::seconds kPrepareTime{10};
constexpr std::chrono::seconds kDeviceTime{15};
// Added to the limit for each device, since a listing may be split into several queries.
constexpr std::chrono::milliseconds kListTimePerDevice{2};
// How long to wait for calls that hold a device's lock: such a call may be waiting for a storage
// node that hangs, and other calls for the device queue up behind this wait.
constexpr std::chrono::milliseconds kLockTime{200};
// The time limit of work whose parts have their own limits.
constexpr std::chrono::hours kWholeTime{1};
constexpr std::chrono::milliseconds kHungPause{100};
// The limits of about this many devices are compared in one pass.
constexpr size_t kLimitsPerPass = 256;
// After a pass over more devices than this, the memory of the listing is returned to the system.
constexpr size_t kManyDevices = 500;

}  // namespace

TypeLoop::TypeLoop(Core& core, DeviceManager& manager, std::function<void()> local_done)
    : core_(core),
      manager_(manager),
      local_done_(std::move(local_done)),
      pass_pause_(core.options.min_retry_pause),
      retries_(core.options.min_retry_pause) {}

TypeLoop::~TypeLoop() { Stop(); }

void TypeLoop::Start() {
  thread_ = std::thread([this] { Run(); });
}

void TypeLoop::Stop() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  context_.Cancel();
  if (thread_.joinable()) thread_.join();
  if (pass_thread_.joinable()) pass_thread_.join();
  std::map<std::string, Lane> lanes;
  {
    MutexLock lock(mutex_);
    // The lanes' threads use lanes_ until they are done.
    while (std::any_of(lanes_.begin(), lanes_.end(),
                       [](const auto& entry) { return entry.second.is_running; })) {
      changed_.Wait(mutex_);
    }
    lanes.swap(lanes_);
  }
  for (auto& [neighbour, lane] : lanes) lane.thread.join();
}

void TypeLoop::Begin(uint64_t generation) {
  MutexLock lock(mutex_);
  const auto now = steady_clock::now();
  if (generation_ != generation) {
    connected_at_ = now;
    begun_at_ = std::chrono::system_clock::now();
    work_.Cancel();
    work_ = context_.Child(base::TimePoint::max());
  }
  generation_ = generation;
  next_pass_ = now;
  pass_pause_ = core_.options.min_retry_pause;
  changed_.NotifyAll();
}

void TypeLoop::OnDisconnect() {
  MutexLock lock(mutex_);
  generation_ = 0;
  work_.Cancel();
}

base::Context TypeLoop::WorkContext(std::chrono::nanoseconds timeout) const {
  MutexLock lock(mutex_);
  return work_.Child(steady_clock::now() + timeout);
}

void TypeLoop::Wake(const std::string& handle) {
  MutexLock lock(mutex_);
  retries_.Wake(handle);
  changed_.NotifyAll();
}

bool TypeLoop::IsLocalDone(uint64_t generation) const {
  MutexLock lock(mutex_);
  return local_generation_ == generation;
}

TypeLoop::Comparison TypeLoop::comparison(uint64_t generation, bool is_remote) const {
  MutexLock lock(mutex_);
  const bool is_done = (is_remote ? remote_generation_ : local_generation_) == generation;
  if (!is_done || generation == 0) return {.is_done = false, .since = begun_at_};
  return {.is_done = true, .since = is_remote ? remote_done_at_ : local_done_at_};
}

TypeLoop::Progress TypeLoop::progress() const {
  MutexLock lock(mutex_);
  return progress_;
}

absl::Status TypeLoop::error() const {
  MutexLock lock(mutex_);
  return error_;
}

void TypeLoop::SetLocalDone(uint64_t generation) {
  {
    MutexLock lock(mutex_);
    if (local_generation_ == generation) return;
    local_generation_ = generation;
    local_done_at_ = std::chrono::system_clock::now();
  }
  local_done_();
}

void TypeLoop::SetRemoteDone(uint64_t generation) {
  {
    MutexLock lock(mutex_);
    if (remote_generation_ == generation) return;
    remote_generation_ = generation;
    remote_done_at_ = std::chrono::system_clock::now();
  }
  core_.publish_target();
}

bool TypeLoop::MayExposeIncomplete() const {
  MutexLock lock(mutex_);
  return steady_clock::now() - connected_at_ >= core_.options.incomplete_hold;
}

void TypeLoop::Run() {
  while (true) {
    // Called without the lock held. Calls to a hung target would only block.
    const bool is_hung = !core_.target_status().ok();
    uint64_t pass = 0;
    std::vector<std::string> due;
    {
      MutexLock lock(mutex_);
      if (stopping_) return;
      const auto now = steady_clock::now();
      base::TimePoint next = base::TimePoint::max();
      if (generation_ != 0 && is_hung) {
        next = now + kHungPause;
      } else if (generation_ != 0) {
        if (!is_passing_ && next_pass_ <= now) pass = generation_;
        if (!is_passing_) next = next_pass_;
        due = retries_.Due(now, next);
      }
      if (pass == 0 && due.empty()) {
        changed_.WaitUntil(mutex_, next);
        continue;
      }
      if (pass != 0) {
        next_pass_ = base::TimePoint::max();
        is_passing_ = true;
      }
    }
    if (pass != 0) {
      if (pass_thread_.joinable()) pass_thread_.join();
      pass_thread_ = std::thread([this, pass] { RunPass(pass); });
    } else {
      RestoreByNeighbour(due);
    }
    JoinIdleLanes();
  }
}

// Runs in a separate thread, because a neighbour that hangs may block it for some time, while
// individual devices are restored.
void TypeLoop::RunPass(uint64_t generation) {
  ComparePass(generation);
  MutexLock lock(mutex_);
  is_passing_ = false;
  changed_.NotifyAll();
}

// Devices that depend only on the target are restored on this thread. Others may have to wait for
// their neighbour, so each neighbour gets a thread of its own.
void TypeLoop::RestoreByNeighbour(const std::vector<std::string>& handles) {
  std::vector<std::string> local;
  for (const std::string& handle : handles) {
    const std::optional<record::Device> device = core_.record->FindDevice(handle);
    const std::string neighbour = device ? manager_.NeighbourOf(SpecOf(*device)) : std::string();
    if (neighbour.empty()) {
      local.push_back(handle);
      continue;
    }
    MutexLock lock(mutex_);
    retries_.Defer(handle);
    Lane& lane = lanes_[neighbour];
    lane.handles.insert(handle);
    if (lane.is_running) continue;
    if (lane.thread.joinable()) lane.thread.join();
    lane.is_running = true;
    lane.thread = std::thread([this, neighbour] { RunLane(neighbour); });
  }
  if (!local.empty()) RestoreDue(local);
}

void TypeLoop::RunLane(const std::string& neighbour) {
  while (true) {
    std::vector<std::string> handles;
    {
      MutexLock lock(mutex_);
      Lane& lane = lanes_.at(neighbour);
      handles.assign(lane.handles.begin(), lane.handles.end());
      lane.handles.clear();
      if (handles.empty() || stopping_) {
        lane.is_running = false;
        changed_.NotifyAll();
        return;
      }
    }
    RestoreDue(handles);
  }
}

void TypeLoop::JoinIdleLanes() {
  MutexLock lock(mutex_);
  for (auto entry = lanes_.begin(); entry != lanes_.end();) {
    if (entry->second.is_running) {
      ++entry;
      continue;
    }
    entry->second.thread.join();
    entry = lanes_.erase(entry);
  }
}

absl::StatusOr<std::unique_ptr<DeviceListing>> TypeLoop::PrepareAndList(
    const std::vector<record::DeviceRevision>& all) {
  const base::Context context = WorkContext(kPrepareTime + all.size() * kListTimePerDevice);
  absl::Status status = manager_.Prepare(context);
  if (!status.ok()) return status;
  std::vector<std::string> handles;
  for (const record::DeviceRevision& device : all) handles.push_back(device.handle);
  return manager_.ListOf(context, handles);
}

// Returns all devices except those that were complete in the last comparison and for which neither
// the target nor the record has changed since.
std::vector<record::Device> TypeLoop::DevicesToCompare(
    const DeviceListing& listing, const std::vector<record::DeviceRevision>& all) const {
  std::set<std::string> marked;
  for (const base::Uuid& id : core_.unset_limits.All()) {
    if (std::optional<record::Volume> row = core_.record->FindVolume(id)) {
      marked.insert(row->device_handle);
    }
  }
  std::vector<record::Device> devices;
  for (const auto& [handle, revision] : all) {
    const uint64_t fingerprint = manager_.FingerprintOf(listing, handle);
    if (!marked.contains(handle) && compared_.IsSame(handle, {fingerprint, revision})) continue;
    if (std::optional<record::Device> row = core_.record->FindDevice(handle)) {
      devices.push_back(*std::move(row));
    }
  }
  return devices;
}

void TypeLoop::ComparePass(uint64_t generation) {
  const uint64_t revision = core_.record->revision();
  auto all = core_.record->DeviceRevisions(manager_.name());
  limited_.clear();
  auto listing = PrepareAndList(all);
  if (!listing.ok()) {
    FailPass(listing.status());
    return SetLocalDone(generation);
  }
  const bool is_new = generation != passed_generation_;
  if (is_new) compared_.Clear();
  std::vector<record::Device> devices = DevicesToCompare(**listing, all);
  const auto remote =
      std::stable_partition(devices.begin(), devices.end(), [&](const record::Device& device) {
        const std::vector<record::Volume> volumes = core_.record->VolumesOf(device.handle);
        return manager_.NeighbourOf(SpecOf(device)).empty() &&
               std::none_of(volumes.begin(), volumes.end(), volume::IsRemote);
      });
  {
    MutexLock lock(mutex_);
    error_ = absl::OkStatus();
    progress_ = {.is_active = true,
                 .total = static_cast<uint32_t>(all.size()),
                 .done = static_cast<uint32_t>(all.size() - devices.size())};
  }
  const RestoreOptions options{.listing = listing->get(),
                               .listing_revision = revision,
                               .repair = is_new || core_.options.repair_drift,
                               .set_limits = is_new && manager_.traits().names_devices};
  RestoreEach({devices.begin(), remote}, options, is_new);
  SetLocalDone(generation);
  if (remote != devices.end()) {
    RefreshConnections(core_.record->Volumes());
    RestoreEach({remote, devices.end()}, options, is_new);
  }
  SetRemoteDone(generation);
  const bool is_large = all.size() > kManyDevices;
  listing->reset();
  std::vector<record::Device>().swap(devices);
  // Limits that have just been set need not be read. Later passes read them in turn.
  if (is_new) {
    std::erase_if(all, [&](const auto& device) { return limited_.contains(device.handle); });
  }
  limited_.clear();
  const absl::Status limits = CompareLimits(all, options.repair, is_new);
  if (is_large) malloc_trim(0);
  EndPass(generation, limits);
}

void TypeLoop::EndPass(uint64_t generation, const absl::Status& limits) {
  ++pass_count_;
  if (limits.ok()) {
    passed_generation_ = generation;
  } else {
    spdlog::warn("device type {}: limits could not be compared, retrying: {}", manager_.name(),
                 limits.ToString());
  }
  MutexLock lock(mutex_);
  progress_.is_active = false;
  if (generation_ != generation || next_pass_ != base::TimePoint::max()) return;
  if (!limits.ok()) return ScheduleRetry();
  pass_pause_ = core_.options.min_retry_pause;
  const bool is_periodic = core_.options.drift_period > std::chrono::nanoseconds(0);
  if (is_periodic) next_pass_ = steady_clock::now() + core_.options.drift_period;
}

void TypeLoop::ScheduleRetry() {
  next_pass_ = steady_clock::now() + pass_pause_;
  pass_pause_ = std::min<std::chrono::nanoseconds>(2 * pass_pause_, kMaxPause);
}

// Compares the limits of all devices after a connect, and otherwise, if there are many, of a part
// of them in each pass, since each bdev is queried by name. Does nothing for a type that chooses
// the handles itself, which alone knows the limits of its devices.
absl::Status TypeLoop::CompareLimits(const std::vector<record::DeviceRevision>& all, bool repair,
                                     bool is_new) {
  if (manager_.traits().names_devices) return absl::OkStatus();
  const size_t slices = is_new ? 1 : all.size() / kLimitsPerPass + 1;
  std::vector<std::string> handles;
  for (size_t i = pass_count_ % slices; i < all.size(); i += slices) {
    handles.push_back(all[i].handle);
  }
  auto changed = FindChangedLimits(core_, WorkContext(kWholeTime), kPrepareTime, handles);
  if (!changed.ok()) return changed.status();
  std::vector<record::Device> devices;
  for (const std::string& handle : *changed) {
    if (std::optional<record::Device> row = core_.record->FindDevice(handle)) {
      devices.push_back(*std::move(row));
    }
  }
  {
    MutexLock lock(mutex_);
    progress_.total += static_cast<uint32_t>(devices.size());
  }
  RestoreEach(devices, {.repair = repair, .compare_limits = true}, is_new);
  return absl::OkStatus();
}

// Sets the last error of all devices of the type, and schedules another pass.
void TypeLoop::FailPass(const absl::Status& error) {
  const absl::Status reason = WithContext(fmt::format("device type {}", manager_.name()), error);
  bool is_told = false;
  {
    MutexLock lock(mutex_);
    is_told = error_ == reason;
    error_ = reason;
    if (generation_ != 0 && next_pass_ == base::TimePoint::max()) ScheduleRetry();
  }
  if (is_told) return;
  spdlog::warn("{}", reason.ToString());
  auto make = [&] {
    // Uses Update, because the locks of the devices are not held and a device may have been
    // deleted.
    record::Change change;
    for (const record::Device& device : core_.record->Devices()) {
      if (device.manager != manager_.name() || device.state != record::DeviceState::kReady) {
        continue;
      }
      change.put_devices.push_back(WithError(device, reason));
    }
    return change;
  };
  core_.record->Update(make, record::Durability::kProcess).IgnoreError();
}

DomainTask TypeLoop::TaskFor(const record::Device& device, RestoreOptions options) const {
  options.lock_time = kLockTime;
  return {.domain = manager_.NeighbourOf(SpecOf(device)),
          .run = [this, handle = device.handle, options] {
            return RestoreDevice(core_, WorkContext(kDeviceTime), handle, options);
          }};
}

void TypeLoop::RestoreEach(const std::vector<record::Device>& devices,
                           const RestoreOptions& options, bool is_new) {
  RestoreOptions of_device = options;
  of_device.expose_incomplete = MayExposeIncomplete();
  std::vector<RestoreFindings> findings(devices.size());
  std::vector<DomainTask> tasks;
  for (const record::Device& device : devices) {
    of_device.findings = &findings[tasks.size()];
    DomainTask task = TaskFor(device, of_device);
    task.run = [this, run = std::move(task.run)] {
      absl::Status status = run();
      MutexLock lock(mutex_);
      ++progress_.done;
      if (!status.ok()) ++progress_.failed;
      return status;
    };
    tasks.push_back(std::move(task));
  }
  const auto begin = steady_clock::now();
  const std::vector<absl::Status> results =
      RunByDomain(std::move(tasks), core_.options.restore_parallelism);
  const auto failed = static_cast<size_t>(std::count_if(
      results.begin(), results.end(), [](const absl::Status& status) { return !status.ok(); }));
  if (is_new && !results.empty()) {
    spdlog::info(
        "device type {}: {} devices were compared with the record after a connect in "
        "{} ms, {} of them are not complete",
        manager_.name(), results.size(),
        (steady_clock::now() - begin) / std::chrono::milliseconds(1), failed);
  }
  for (size_t i = 0; i < results.size(); ++i) {
    if (options.listing != nullptr) {
      Remember(devices[i].handle, options, results[i].ok() && findings[i].is_plain_and_same);
    }
    if (findings[i].are_limits_set) limited_.insert(devices[i].handle);
    MutexLock lock(mutex_);
    retries_.Note(devices[i].handle, results[i].ok(), is_new, begin);
  }
}

// A device that changed after the listing was made was not compared with it, and is not remembered.
void TypeLoop::Remember(const std::string& handle, const RestoreOptions& options, bool is_same) {
  if (!is_same || core_.record->ChangedSince(handle, options.listing_revision)) {
    return compared_.Forget(handle);
  }
  compared_.Note(
      handle, {manager_.FingerprintOf(*options.listing, handle), core_.record->RevisionOf(handle)});
}

void TypeLoop::RefreshConnections(const std::vector<record::Volume>& volumes) {
  absl::Status status = core_.volumes->BeginRestore(WorkContext(kPrepareTime), volumes);
  if (!status.ok()) spdlog::warn("target: connections could not be listed: {}", status.ToString());
}

void TypeLoop::RestoreDue(const std::vector<std::string>& handles) {
  const bool may_expose = MayExposeIncomplete();
  std::vector<std::string> known;
  std::vector<bool> since_connect;
  std::vector<DomainTask> tasks;
  for (const std::string& handle : handles) {
    std::optional<record::Device> device = core_.record->FindDevice(handle);
    MutexLock lock(mutex_);
    if (!device) retries_.Remove(handle);
    const std::optional<bool> is_restore = retries_.Take(handle);
    if (!is_restore) continue;
    known.push_back(handle);
    since_connect.push_back(*is_restore);
    tasks.push_back(TaskFor(*device, {.repair = *is_restore || core_.options.repair_drift,
                                      .expose_incomplete = may_expose,
                                      .set_limits = *is_restore,
                                      .compare_limits = true}));
  }
  // The cached state of their connections may be outdated: query it again.
  std::vector<record::Volume> remote;
  for (const std::string& handle : known) {
    for (record::Volume& volume : core_.record->VolumesOf(handle)) {
      if (volume::IsRemote(volume)) remote.push_back(std::move(volume));
    }
  }
  if (!remote.empty()) RefreshConnections(remote);
  const auto begin = steady_clock::now();
  const std::vector<absl::Status> results =
      RunByDomain(std::move(tasks), core_.options.restore_parallelism);
  for (size_t i = 0; i < results.size(); ++i) {
    MutexLock lock(mutex_);
    retries_.Note(known[i], results[i].ok(), since_connect[i], begin);
  }
}

}  // namespace sma::core
