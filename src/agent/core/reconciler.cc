#include "agent/core/reconciler.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <utility>
#include <vector>

#include "agent/core/admin_messages.h"
#include "agent/core/restore.h"
#include "jsonrpc/error.h"

namespace sma::core {

using base::MutexLock;
using std::chrono::steady_clock;

namespace {

// The longest pause after a comparison that left something to do.
constexpr std::chrono::nanoseconds kMaxPause = std::chrono::seconds(5);
// At most this long for one comparison: a target that hangs must not hold it for ever.
constexpr std::chrono::minutes kCompareTimeout{5};
constexpr std::chrono::seconds kVersionTimeout{5};

// Calls `work(i)` for each i below `count`, in up to `parallelism` threads.
void ForEach(size_t count, int parallelism, const std::function<void(size_t)>& work) {
  std::atomic<size_t> next = 0;
  auto run = [&] {
    for (size_t i = next++; i < count; i = next++) work(i);
  };
  std::vector<std::thread> threads;
  size_t wanted = std::min<size_t>(count, static_cast<size_t>(std::max(parallelism, 1)));
  for (size_t i = 1; i < wanted; ++i) threads.emplace_back(run);
  run();
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

Reconciler::Reconciler(Core& core, std::function<void(bool serving)> serving_changed)
    : core_(core), serving_changed_(std::move(serving_changed)) {}

Reconciler::~Reconciler() { Stop(); }

void Reconciler::Start() {
  thread_ = std::thread([this] { Run(); });
}

void Reconciler::Stop() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  context_.Cancel();
  if (thread_.joinable()) thread_.join();
}

void Reconciler::Wake() {
  MutexLock lock(mutex_);
  woken_ = true;
  changed_.NotifyAll();
}

void Reconciler::OnConnect() {
  MutexLock lock(mutex_);
  connected_ = true;
  connected_at_ = steady_clock::now();
  connection_changed_ = std::chrono::system_clock::now();
  woken_ = true;
  changed_.NotifyAll();
}

void Reconciler::OnDisconnect(const absl::Status& reason) {
  {
    MutexLock lock(mutex_);
    connected_ = false;
    connection_changed_ = std::chrono::system_clock::now();
    target_error_ = {reason.code(), std::string(reason.message()), connection_changed_};
  }
  SetServing(false);
}

void Reconciler::SetServing(bool serving) {
  MutexLock serving_lock(serving_mutex_);
  {
    MutexLock lock(mutex_);
    if (serving_ == serving || (serving && !connected_)) return;
    serving_ = serving;
  }
  if (serving_changed_) serving_changed_(serving);
}

bool Reconciler::IncompleteHoldIsOver() const {
  MutexLock lock(mutex_);
  return steady_clock::now() - connected_at_ >= core_.options.incomplete_hold;
}

void Reconciler::Run() {
  uint64_t complete_generation = 0;  // of the connection after which all was made again
  std::chrono::nanoseconds pause = core_.options.min_retry_pause;
  std::string told;  // the last error that was logged
  base::TimePoint next = base::TimePoint::max();
  while (true) {
    {
      MutexLock lock(mutex_);
      while (!stopping_ && !(woken_ && connected_) && (steady_clock::now() < next || !connected_)) {
        changed_.WaitUntil(mutex_, connected_ ? next : base::TimePoint::max());
      }
      if (stopping_) return;
      woken_ = false;
    }
    uint64_t generation = core_.target.generation();
    bool is_new = generation != complete_generation;
    absl::Status status = Compare(is_new || core_.options.repair_drift, is_new);
    auto now = steady_clock::now();
    if (status.ok() && core_.target.generation() == generation) {
      complete_generation = generation;
      told.clear();
      pause = core_.options.min_retry_pause;
      bool periodic = core_.options.drift_period > std::chrono::nanoseconds(0);
      next = periodic ? now + core_.options.drift_period : base::TimePoint::max();
    } else {
      if (!status.ok() && status.message() != told) {
        told = std::string(status.message());
        spdlog::warn("not all is on the target: {}", told);
      }
      next = now + pause;
      pause = std::min<std::chrono::nanoseconds>(2 * pause, kMaxPause);
    }
  }
}

absl::Status Reconciler::Compare(bool repair, bool set_limits) {
  AskVersion();
  absl::Status status = RestoreAll(repair, set_limits);
  MutexLock lock(mutex_);
  progress_.active = false;
  return status;
}

// Once for each connection. A target that does not tell its version is as good as any other.
void Reconciler::AskVersion() {
  const uint64_t generation = core_.target.generation();
  if (generation == version_generation_) return;
  absl::StatusOr<jsonrpc::Json> answer = core_.target.Call(
      context_.Child(steady_clock::now() + kVersionTimeout), "spdk_get_version", jsonrpc::Json());
  if (!answer.ok() && !jsonrpc::GetTargetError(answer.status())) return;
  version_generation_ = generation;
  std::string version;
  if (answer.ok() && answer->is_object() && answer->contains("version")) {
    const jsonrpc::Json& text = (*answer)["version"];
    if (text.is_string()) version = text.get<std::string>();
  }
  MutexLock lock(mutex_);
  target_version_ = std::move(version);
}

absl::Status Reconciler::RestoreAll(bool repair, bool set_limits) {
  const base::Context context = context_.Child(steady_clock::now() + kCompareTimeout);
  uint64_t revision = core_.record->revision();
  std::map<std::string, std::unique_ptr<DeviceListing>, std::less<>> listings;
  auto look = [&](bool plugins) -> absl::Status {
    for (const auto& manager : core_.registry.managers()) {
      if (manager->traits().names_devices != plugins) continue;
      absl::Status status = manager->Prepare(context);
      if (!status.ok()) return status;
      auto listing = manager->List(context);
      if (!listing.ok()) return listing.status();
      listings.emplace(manager->name(), *std::move(listing));
    }
    return absl::OkStatus();
  };
  if (absl::Status status = look(/*plugins=*/false); !status.ok()) return status;
  absl::Status looked = core_.volumes->BeginRestore(context, core_.record->Volumes());
  if (!looked.ok()) return looked;
  absl::StatusOr<std::unique_ptr<LimitListing>> limits = LimitListing::Take(core_, context);
  if (!limits.ok()) return limits.status();
  std::vector<record::Device> devices = core_.record->Devices();
  const auto of_plugins =
      std::stable_partition(devices.begin(), devices.end(), [&](const record::Device& device) {
        DeviceManager* manager = core_.registry.ForName(device.manager);
        return manager == nullptr || !manager->traits().names_devices;
      });
  {
    MutexLock lock(mutex_);
    progress_ = {.active = true, .total = static_cast<uint32_t>(devices.size())};
  }
  bool expose_incomplete = IncompleteHoldIsOver();
  base::Mutex status_mutex;
  absl::Status first;
  auto restore = [&](size_t i) {
    auto listing = listings.find(devices[i].manager);
    absl::Status status =
        RestoreDevice(core_, context, devices[i].handle,
                      {.listing = listing == listings.end() ? nullptr : listing->second.get(),
                       .listing_revision = revision,
                       .repair = repair,
                       .expose_incomplete = expose_incomplete,
                       .set_limits = set_limits,
                       .limits = limits->get()});
    {
      MutexLock lock(mutex_);
      ++progress_.done;
      if (!status.ok()) ++progress_.failed;
    }
    MutexLock lock(status_mutex);
    first.Update(std::move(status));
  };
  // Plugins come last: the agent's own types never wait for one that hangs.
  const auto own = static_cast<size_t>(of_plugins - devices.begin());
  ForEach(own, core_.options.restore_parallelism, restore);
  if (absl::Status status = look(/*plugins=*/true); !status.ok()) return status;
  ForEach(devices.size() - own, core_.options.restore_parallelism,
          [&](size_t i) { restore(own + i); });
  // What could be was made again; the rest is told of each device and tried again.
  if (!context.done()) SetServing(true);
  return first;
}

void Reconciler::FillStatus(admin::v1::Status& status) const {
  MutexLock lock(mutex_);
  SetTime(started_, *status.mutable_started());
  status.set_serving(serving_);
  admin::v1::Status::Target& target = *status.mutable_target();
  target.set_connected(connected_);
  SetTime(connection_changed_, *target.mutable_since());
  target.set_version(target_version_);
  uint64_t generation = core_.target.generation();
  target.set_reconnects(generation == 0 ? 0 : generation - 1);
  if (target_error_.code != absl::StatusCode::kOk) {
    SetError(target_error_, *target.mutable_last_error());
  }
  admin::v1::Status::Restore& restore = *status.mutable_restore();
  restore.set_active(progress_.active);
  restore.set_total(progress_.total);
  restore.set_done(progress_.done);
  restore.set_failed(progress_.failed);
}

}  // namespace sma::core
