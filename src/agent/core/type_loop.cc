#include "agent/core/type_loop.h"

#include <fmt/format.h>
#include <malloc.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

namespace sma::core {

using base::MutexLock;
using std::chrono::steady_clock;

namespace {

// The longest pause before a device, or a type, that failed is looked at again.
constexpr std::chrono::nanoseconds kMaxPause = std::chrono::seconds(5);
// At most this long for what all devices of a type need, and for one device: a neighbour that hangs
// must not hold them for ever.
constexpr std::chrono::seconds kPrepareTime{10};
constexpr std::chrono::seconds kDeviceTime{15};
constexpr std::chrono::milliseconds kHungPause{100};
// The limits of so many devices are compared in one pass.
constexpr size_t kLimitsPerPass = 256;
// The memory for a listing of more goes back to the system.
constexpr size_t kManyDevices = 500;

}  // namespace

TypeLoop::TypeLoop(Core& core, DeviceManager& manager, std::function<void()> local_done)
    : core_(core),
      manager_(manager),
      local_done_(std::move(local_done)),
      pass_pause_(core.options.min_retry_pause) {}

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
}

void TypeLoop::Begin(uint64_t generation) {
  MutexLock lock(mutex_);
  const auto now = steady_clock::now();
  if (generation_ != generation) connected_at_ = now;
  generation_ = generation;
  next_pass_ = now;
  pass_pause_ = core_.options.min_retry_pause;
  changed_.NotifyAll();
}

void TypeLoop::OnDisconnect() {
  MutexLock lock(mutex_);
  generation_ = 0;
}

void TypeLoop::Wake(const std::string& handle) {
  MutexLock lock(mutex_);
  auto [retry, is_new] = retries_.try_emplace(handle);
  if (is_new) retry->second.pause = core_.options.min_retry_pause;
  retry->second.due = retry->second.woken = steady_clock::now();
  changed_.NotifyAll();
}

bool TypeLoop::IsLocalDone(uint64_t generation) const {
  MutexLock lock(mutex_);
  return local_generation_ == generation;
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
  }
  local_done_();
}

bool TypeLoop::MayExposeIncomplete() const {
  MutexLock lock(mutex_);
  return steady_clock::now() - connected_at_ >= core_.options.incomplete_hold;
}

void TypeLoop::Run() {
  while (true) {
    // Asked without the lock. What is sent to a target that hangs would only be waited for.
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
        if (next_pass_ <= now) pass = generation_;
        next = next_pass_;
        for (const auto& [handle, retry] : retries_) {
          if (retry.due <= now) due.push_back(handle);
          next = std::min(next, retry.due);
        }
      }
      if (pass == 0 && due.empty()) {
        changed_.WaitUntil(mutex_, next);
        continue;
      }
      if (pass != 0) next_pass_ = base::TimePoint::max();
    }
    if (pass != 0) {
      ComparePass(pass);
    } else {
      RestoreDue(due);
    }
  }
}

absl::StatusOr<std::unique_ptr<DeviceListing>> TypeLoop::PrepareAndList() {
  const base::Context context = context_.Child(steady_clock::now() + kPrepareTime);
  absl::Status status = manager_.Prepare(context);
  if (!status.ok()) return status;
  return manager_.List(context);
}

void TypeLoop::ComparePass(uint64_t generation) {
  const uint64_t revision = core_.record->revision();
  auto listing = PrepareAndList();
  std::vector<record::Device> devices = core_.record->Devices();
  std::erase_if(devices, [&](const record::Device& row) { return row.manager != manager_.name(); });
  if (!listing.ok()) {
    FailPass(listing.status(), devices);
    return SetLocalDone(generation);
  }
  const bool is_new = generation != passed_generation_;
  const auto remote =
      std::stable_partition(devices.begin(), devices.end(), [&](const record::Device& device) {
        const std::vector<record::Volume> volumes = core_.record->VolumesOf(device.handle);
        return manager_.NeighbourOf(SpecOf(device)).empty() &&
               std::none_of(volumes.begin(), volumes.end(), volume::IsRemote);
      });
  {
    MutexLock lock(mutex_);
    error_ = absl::OkStatus();
    progress_ = {.is_active = true, .total = static_cast<uint32_t>(devices.size())};
  }
  const RestoreOptions options{.listing = listing->get(),
                               .listing_revision = revision,
                               .repair = is_new || core_.options.repair_drift,
                               .set_limits = is_new};
  RestoreEach({devices.begin(), remote}, options, is_new);
  SetLocalDone(generation);
  if (remote != devices.end()) {
    LookAtConnections(core_.record->Volumes());
    RestoreEach({remote, devices.end()}, options, is_new);
  }
  passed_generation_ = generation;
  ++pass_count_;
  listing->reset();
  if (devices.size() > kManyDevices) malloc_trim(0);
  MutexLock lock(mutex_);
  progress_.is_active = false;
  pass_pause_ = core_.options.min_retry_pause;
  if (generation_ != generation || next_pass_ != base::TimePoint::max()) return;
  const bool is_periodic = core_.options.drift_period > std::chrono::nanoseconds(0);
  if (is_periodic) next_pass_ = steady_clock::now() + core_.options.drift_period;
}

// All devices of the type are told of it, and it is tried again.
void TypeLoop::FailPass(const absl::Status& error, const std::vector<record::Device>& devices) {
  const absl::Status reason = WithContext(fmt::format("device type {}", manager_.name()), error);
  bool is_told = false;
  {
    MutexLock lock(mutex_);
    is_told = error_ == reason;
    error_ = reason;
    if (generation_ != 0 && next_pass_ == base::TimePoint::max()) {
      next_pass_ = steady_clock::now() + pass_pause_;
      pass_pause_ = std::min<std::chrono::nanoseconds>(2 * pass_pause_, kMaxPause);
    }
  }
  if (is_told) return;
  spdlog::warn("{}", reason.ToString());
  record::Change change;
  for (const record::Device& device : devices) {
    if (device.state != record::DeviceState::kReady) continue;
    change.put_devices.push_back(WithError(device, reason));
  }
  if (!record::IsEmpty(change)) {
    core_.record->Write(std::move(change), record::Durability::kProcess).IgnoreError();
  }
}

DomainTask TypeLoop::TaskFor(const record::Device& device, RestoreOptions options) const {
  return {.domain = manager_.NeighbourOf(SpecOf(device)),
          .run = [this, handle = device.handle, options] {
            return RestoreDevice(core_, context_.Child(steady_clock::now() + kDeviceTime), handle,
                                 options);
          }};
}

void TypeLoop::RestoreEach(const std::vector<record::Device>& devices,
                           const RestoreOptions& options, bool is_new) {
  RestoreOptions of_device = options;
  of_device.expose_incomplete = MayExposeIncomplete();
  // Each volume is asked about by name: not all of them in one pass, where there are many.
  const size_t slices = devices.size() / kLimitsPerPass + 1;
  std::vector<DomainTask> tasks;
  for (const record::Device& device : devices) {
    of_device.compare_limits = tasks.size() % slices == pass_count_ % slices;
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
  for (size_t i = 0; i < results.size(); ++i) Note(devices[i].handle, results[i], is_new, begin);
}

void TypeLoop::LookAtConnections(const std::vector<record::Volume>& volumes) {
  absl::Status status =
      core_.volumes->BeginRestore(context_.Child(steady_clock::now() + kPrepareTime), volumes);
  if (!status.ok()) spdlog::warn("connections cannot be listed: {}", status.ToString());
}

void TypeLoop::RestoreDue(const std::vector<std::string>& handles) {
  const bool may_expose = MayExposeIncomplete();
  std::vector<std::string> known;
  std::vector<bool> since_connect;
  std::vector<DomainTask> tasks;
  for (const std::string& handle : handles) {
    std::optional<record::Device> device = core_.record->FindDevice(handle);
    MutexLock lock(mutex_);
    auto retry = retries_.find(handle);
    if (!device || retry == retries_.end()) {
      retries_.erase(handle);
      continue;
    }
    // So that what is woken meanwhile is not lost.
    retry->second.due = base::TimePoint::max();
    const bool is_restore = retry->second.since_connect;
    known.push_back(handle);
    since_connect.push_back(is_restore);
    tasks.push_back(TaskFor(*device, {.repair = is_restore || core_.options.repair_drift,
                                      .expose_incomplete = may_expose,
                                      .set_limits = is_restore}));
  }
  // What is known of their connections may be what is wrong.
  std::vector<record::Volume> remote;
  for (const std::string& handle : known) {
    for (record::Volume& volume : core_.record->VolumesOf(handle)) {
      if (volume::IsRemote(volume)) remote.push_back(std::move(volume));
    }
  }
  if (!remote.empty()) LookAtConnections(remote);
  const auto begin = steady_clock::now();
  const std::vector<absl::Status> results =
      RunByDomain(std::move(tasks), core_.options.restore_parallelism);
  for (size_t i = 0; i < results.size(); ++i) {
    Note(known[i], results[i], since_connect[i], begin);
  }
}

void TypeLoop::Note(const std::string& handle, const absl::Status& status, bool since_connect,
                    base::TimePoint begin) {
  MutexLock lock(mutex_);
  auto found = retries_.find(handle);
  const bool is_woken = found != retries_.end() && found->second.woken >= begin;
  if (status.ok()) {
    if (found != retries_.end() && !is_woken) retries_.erase(found);
    return;
  }
  if (found == retries_.end()) {
    found = retries_.try_emplace(handle).first;
    found->second.pause = core_.options.min_retry_pause;
  }
  Retry& retry = found->second;
  retry.since_connect |= since_connect;
  if (is_woken) return;
  retry.due = steady_clock::now() + retry.pause;
  retry.pause = std::min<std::chrono::nanoseconds>(2 * retry.pause, kMaxPause);
}

}  // namespace sma::core
