// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "agent/core/compared_devices.h"
#include "agent/core/core.h"
#include "agent/core/domain_runner.h"
#include "agent/core/restore.h"
#include "agent/core/retry_table.h"
#include "base/context.h"
#include "base/mutex.h"
#include "sma/device_manager.h"

namespace sma::core {

/// Makes the devices of one type on the target match the record. A thread compares all of them
/// after each connect and every drift period, and restores single devices that are incomplete, or
/// that a call left unfinished, with a back-off for each. A type that hangs or fails does not delay
/// other types, and a device does not delay other devices: devices of a neighbour that hangs are
/// restored by a thread for that neighbour.
class TypeLoop {
 public:
  /// The progress of the comparison of all devices.
  struct Progress {
    bool is_active = false;
    uint32_t total = 0;
    uint32_t done = 0;
    uint32_t failed = 0;
  };

  /// Both references must outlive this object. `local_done` is called whenever the result of
  /// IsLocalDone changes.
  TypeLoop(Core& core, DeviceManager& manager, std::function<void()> local_done);
  ~TypeLoop();

  void Start();
  /// Cancels the threads' work and waits for them to end. Idempotent.
  void Stop();

  // Called from any thread; do not block.

  /// Called when the target has been connected for the `generation`th time: compares all devices
  /// now.
  void Begin(uint64_t generation);
  void OnDisconnect();
  /// Restores one device now.
  void Wake(const std::string& handle);

  /// Returns true if all devices that depend only on the target were compared over this connection,
  /// or cannot be compared at present.
  bool IsLocalDone(uint64_t generation) const;
  /// Whether the devices were compared over the present connection, and since when.
  struct Comparison {
    bool is_done = false;
    record::Time since{};
  };
  /// Returns the comparison of the devices without remote volumes or, if `is_remote` is true, of
  /// those with volumes on storage nodes, which are compared later.
  Comparison comparison(uint64_t generation, bool is_remote) const;
  Progress progress() const;
  /// Returns why the type cannot be used at present, or OK.
  absl::Status error() const;
  const DeviceManager& manager() const { return manager_; }

 private:
  /// The devices of one failure domain, which are restored by a separate thread.
  struct Lane {
    std::set<std::string> handles;
    bool is_running = false;  // false: the thread no longer uses this
    std::thread thread;
  };

  void Run();
  void RestoreByNeighbour(const std::vector<std::string>& handles);
  void RunLane(const std::string& neighbour);
  void JoinIdleLanes();
  void RunPass(uint64_t generation);
  void ComparePass(uint64_t generation);
  void EndPass(uint64_t generation, const absl::Status& limits);
  void ScheduleRetry() SMA_REQUIRES(mutex_);
  absl::StatusOr<std::unique_ptr<DeviceListing>> PrepareAndList(
      const std::vector<record::DeviceRevision>& all);
  std::vector<record::Device> DevicesToCompare(
      const DeviceListing& listing, const std::vector<record::DeviceRevision>& all) const;
  absl::Status CompareLimits(const std::vector<record::DeviceRevision>& all, bool repair,
                             bool is_new);
  void Remember(const std::string& handle, const RestoreOptions& options, bool is_same);
  void FailPass(const absl::Status& error);
  void RestoreEach(const std::vector<record::Device>& devices, const RestoreOptions& options,
                   bool is_new);
  void RestoreDue(const std::vector<std::string>& handles);
  /// Queries the connections of these volumes on the target.
  void RefreshConnections(const std::vector<record::Volume>& volumes);
  /// Returns a context for work over the present connection, which is cancelled with it. Otherwise
  /// a thread that waits for a device's lock would delay the restore over the next connection.
  base::Context WorkContext(std::chrono::nanoseconds timeout) const;
  void SetLocalDone(uint64_t generation);
  void SetRemoteDone(uint64_t generation);
  bool MayExposeIncomplete() const;
  DomainTask TaskFor(const record::Device& device, RestoreOptions options) const;

  Core& core_;
  DeviceManager& manager_;
  const std::function<void()> local_done_;
  const base::Context context_ = base::Context::Background();

  mutable base::Mutex mutex_;
  base::CondVar changed_;
  bool stopping_ SMA_GUARDED_BY(mutex_) = false;
  uint64_t generation_ SMA_GUARDED_BY(mutex_) = 0;  // of the connection; 0: none
  base::TimePoint connected_at_ SMA_GUARDED_BY(mutex_);
  bool is_passing_ SMA_GUARDED_BY(mutex_) = false;
  base::TimePoint next_pass_ SMA_GUARDED_BY(mutex_) = base::TimePoint::max();
  std::chrono::nanoseconds pass_pause_ SMA_GUARDED_BY(mutex_);
  RetryTable retries_ SMA_GUARDED_BY(mutex_);
  base::Context work_ SMA_GUARDED_BY(mutex_) = context_.Child(base::TimePoint::max());
  record::Time begun_at_ SMA_GUARDED_BY(mutex_) = std::chrono::system_clock::now();
  // The connections over which devices without and with remote volumes were last compared, and
  // when the first comparison over each was done.
  uint64_t local_generation_ SMA_GUARDED_BY(mutex_) = 0;
  record::Time local_done_at_ SMA_GUARDED_BY(mutex_);
  uint64_t remote_generation_ SMA_GUARDED_BY(mutex_) = 0;
  record::Time remote_done_at_ SMA_GUARDED_BY(mutex_);
  std::map<std::string, Lane> lanes_ SMA_GUARDED_BY(mutex_);  // by neighbour
  absl::Status error_ SMA_GUARDED_BY(mutex_);
  Progress progress_ SMA_GUARDED_BY(mutex_);
  // Used only by pass_thread_; there is one at a time.
  uint64_t passed_generation_ = 0;  // of the last complete pass
  size_t pass_count_ = 0;
  ComparedDevices compared_;
  std::set<std::string, std::less<>> limited_;  // handles: their limits were set in this pass
  std::thread pass_thread_;                     // compares all devices; used only by thread_
  std::thread thread_;
};

}  // namespace sma::core
