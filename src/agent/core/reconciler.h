#pragma once

#include <functional>
#include <thread>

#include "agent/core/core.h"
#include "base/context.h"
#include "base/mutex.h"
#include "sma_admin.pb.h"

namespace sma::core {

/// Keeps the target as the record says: a thread of its own compares the two after each connect,
/// every drift period, and soon after a call left something to be finished, until nothing is
/// missing. One listing each time, then only devices that differ are looked at.
class Reconciler {
 public:
  /// `serving_changed` is called, from any thread but never from two at once, when it changes
  /// whether calls can be served.
  Reconciler(Core& core, std::function<void(bool serving)> serving_changed);
  ~Reconciler();

  void Start();
  /// Ends the thread; what it was doing is given up. Again: nothing.
  void Stop();

  // From any thread; they do not block.
  void Wake();
  void OnConnect();
  void OnDisconnect(const absl::Status& reason);

  /// `serving`, `target` and `restore` of the status, and `started`.
  void FillStatus(admin::v1::Status& status) const;

 private:
  struct Progress {
    bool active = false;
    uint32_t total = 0;
    uint32_t done = 0;
    uint32_t failed = 0;
  };

  void Run();
  /// One comparison; OK when nothing is missing and nothing is left to finish.
  absl::Status Compare(bool repair, bool set_limits);
  void AskVersion();
  absl::Status RestoreAll(bool repair, bool set_limits);
  void SetServing(bool serving);
  bool IncompleteHoldIsOver() const;

  Core& core_;
  const std::function<void(bool)> serving_changed_;
  const base::Context context_ = base::Context::Background();
  const record::Time started_ = std::chrono::system_clock::now();

  base::Mutex serving_mutex_;  // held while serving_changed_ runs
  mutable base::Mutex mutex_;
  base::CondVar changed_;
  bool stopping_ SMA_GUARDED_BY(mutex_) = false;
  bool woken_ SMA_GUARDED_BY(mutex_) = true;
  bool serving_ SMA_GUARDED_BY(mutex_) = false;
  bool connected_ SMA_GUARDED_BY(mutex_) = false;
  record::Time connection_changed_ SMA_GUARDED_BY(mutex_) = started_;
  base::TimePoint connected_at_ SMA_GUARDED_BY(mutex_);
  record::LastError target_error_ SMA_GUARDED_BY(mutex_);
  std::string target_version_ SMA_GUARDED_BY(mutex_);
  Progress progress_ SMA_GUARDED_BY(mutex_);
  uint64_t version_generation_ = 0;  // of the connection that told the version; thread_'s own
  std::thread thread_;
};

}  // namespace sma::core
