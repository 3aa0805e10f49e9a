// SPDX-License-Identifier: Apache-2.0

#include "agent/core/volume_watch.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>

namespace sma::core {

using base::MutexLock;
using std::chrono::steady_clock;

namespace {

// The time limit of a poll, for a target that hangs.
constexpr std::chrono::seconds kPollTimeout{10};

}  // namespace

VolumeWatch::~VolumeWatch() { Stop(); }

void VolumeWatch::Start() {
  if (core_.options.watch_period > std::chrono::nanoseconds(0)) {
    thread_ = std::thread([this] { Run(); });
  }
}

void VolumeWatch::Stop() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  context_.Cancel();
  if (thread_.joinable()) thread_.join();
}

void VolumeWatch::SetServing(bool serving) {
  MutexLock lock(mutex_);
  serving_ = serving;
  changed_.NotifyAll();
}

void VolumeWatch::OnConnected(const std::vector<base::Uuid>& volumes) {
  Restore({volumes.begin(), volumes.end()});
}

void VolumeWatch::Run() {
  base::TimePoint next = steady_clock::now();
  while (true) {
    {
      MutexLock lock(mutex_);
      while (!stopping_ && (!serving_ || steady_clock::now() < next)) {
        changed_.WaitUntil(mutex_, serving_ ? next : base::TimePoint::max());
      }
      if (stopping_) return;
    }
    next = steady_clock::now() + core_.options.watch_period;
    PollBdevs();
    RefreshPaths();
    const base::Context limited = context_.Child(steady_clock::now() + kPollTimeout);
    core_.volumes->ReleaseLingering(limited).IgnoreError();
  }
}

// Takes at most one hundredth of the thread's time, however many controllers there are.
void VolumeWatch::RefreshPaths() {
  const auto start = steady_clock::now();
  if (!has_remote_ || start < next_paths_) return;
  if (core_.volumes->RefreshPaths(context_.Child(start + kPollTimeout)).ok()) {
    const std::vector<record::Volume> rows = core_.record->Volumes();
    portals_.Begin(rows);
    for (const record::Volume& row : rows) {
      if (!volume::IsRemote(row)) continue;
      const std::optional<volume::PathCount> paths =
          row.params.has_iscsi() ? portals_.PathsOf(row) : core_.volumes->PathsOf(row.id);
      const bool is_gone = !paths && row.last_error.code == absl::StatusCode::kNotFound;
      if (is_gone ? core_.paths->Forget(row.id) : core_.paths->Update(row.id, paths)) {
        core_.publish_volume(row.id);
      }
    }
  }
  const auto now = steady_clock::now();
  next_paths_ = now + 100 * (now - start);
}

void VolumeWatch::PollBdevs() {
  if (core_.record->volume_count() == 0) return;
  if (const uint64_t revision = core_.record->revision(); revision != revision_) {
    const std::vector<record::Volume> rows = core_.record->Volumes();
    has_remote_ = std::any_of(rows.begin(), rows.end(), volume::IsRemote);
    bdevs_.SetVolumes(rows);
    revision_ = revision;
  }
  auto changed = bdevs_.Poll(context_.Child(steady_clock::now() + kPollTimeout));
  if (changed.ok()) {
    logged_error_.clear();
    if (!changed->empty()) Restore(*changed);
  } else if (!absl::IsUnavailable(changed.status()) && !context_.done() &&
             logged_error_ != changed.status().message()) {
    logged_error_ = std::string(changed.status().message());
    spdlog::warn("target: bdev notifications could not be read, retrying: {}", logged_error_);
  }
}

void VolumeWatch::Restore(const std::set<base::Uuid>& volumes) {
  std::set<std::string> handles;
  for (const base::Uuid& id : volumes) {
    std::optional<record::Volume> row = core_.record->FindVolume(id);
    if (row) handles.insert(row->device_handle);
  }
  for (const std::string& handle : handles) core_.wake_background(handle);
}

}  // namespace sma::core
