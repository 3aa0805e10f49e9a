// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "agent/core/core.h"
#include "agent/core/type_loop.h"
#include "base/context.h"
#include "base/mutex.h"
#include "sma_admin.pb.h"

namespace sma::core {

/// Makes the target match the record, with a TypeLoop for each device type, and decides whether
/// calls can be served: the target is connected and answers, the devices that depend only on the
/// target have been compared with the record, and the record can be written. A thread checks the
/// target every health period.
class Reconciler {
 public:
  /// `serving_changed` is called, by any thread but never by two at once, when the agent starts or
  /// stops being able to serve calls. `target_serving` is true if only the record may prevent it.
  Reconciler(Core& core, std::function<void(bool serving, bool target_serving)> serving_changed);
  ~Reconciler();

  void Start();
  /// Cancels the threads' work and waits for them to end. Idempotent.
  void Stop();

  // Called from any thread; do not block.
  void Wake(const std::string& handle);
  void OnConnect();
  void OnDisconnect(const absl::Status& reason);
  void OnConnectFailed(const absl::Status& reason);

  /// Returns UNAVAILABLE with the reason if the target does not answer, or has not been connected
  /// for longer than a restart of it takes; otherwise OK.
  absl::Status TargetStatus() const;
  /// Whether the target answers.
  struct TargetFact {
    bool answers = false;
    std::string message;   // why not; empty if it answers
    record::Time since;    // of `answers`; at most since the agent was started
    bool is_first = true;  // the target was never lost since the agent was started
  };
  TargetFact Target() const;
  /// Returns whether the manager's devices, with or without remote volumes, were compared with the
  /// target since the last connect, and since when.
  TypeLoop::Comparison ComparisonOf(const std::string& manager, bool is_remote) const;

  /// Sets the fields `serving`, `not_serving_reason`, `target`, `restore`, `record` and `started`
  /// of `status`.
  void FillStatus(admin::v1::Status& status) const;

 private:
  void Run();
  /// Checks whether the target answers, and reads its version.
  void Probe(uint64_t generation);
  void BeginLoops(uint64_t generation);
  void ReportUnservedDevices();
  void DropOldLimits();
  /// Writes the record if it could not be written at the last attempt or was not written for long.
  /// Returns true if it can be written.
  bool CheckRecord();
  void LogRecord() const;
  void UpdateServing();
  bool IsStarted(uint64_t generation) const SMA_REQUIRES(mutex_);
  std::string WhyNotServing() const SMA_REQUIRES(mutex_);
  /// Returns why the target does not answer; empty if it does.
  std::string WhySilent() const SMA_REQUIRES(mutex_);

  Core& core_;
  const std::function<void(bool, bool)> serving_changed_;
  const base::Context context_ = base::Context::Background();
  const record::Time started_ = std::chrono::system_clock::now();
  std::vector<std::unique_ptr<TypeLoop>> loops_;

  base::Mutex serving_mutex_;  // held while serving_changed_ runs
  mutable base::Mutex mutex_;
  base::CondVar changed_;
  bool stopping_ SMA_GUARDED_BY(mutex_) = false;
  bool woken_ SMA_GUARDED_BY(mutex_) = false;
  bool serving_ SMA_GUARDED_BY(mutex_) = false;           // as far as the target is concerned
  bool reported_serving_ SMA_GUARDED_BY(mutex_) = false;  // to serving_changed_
  bool record_changed_ SMA_GUARDED_BY(mutex_) = false;    // became writable, or not writable
  bool connected_ SMA_GUARDED_BY(mutex_) = false;
  bool to_begin_ SMA_GUARDED_BY(mutex_) = false;
  record::Time connection_changed_ SMA_GUARDED_BY(mutex_) = started_;
  record::Time answers_since_ SMA_GUARDED_BY(mutex_) = started_;  // or does not, since
  bool was_lost_ SMA_GUARDED_BY(mutex_) = false;
  base::TimePoint connected_at_ SMA_GUARDED_BY(mutex_);
  base::TimePoint disconnected_at_ SMA_GUARDED_BY(mutex_) = std::chrono::steady_clock::now();
  record::LastError target_error_ SMA_GUARDED_BY(mutex_);
  absl::Status hung_ SMA_GUARDED_BY(mutex_);
  std::string target_version_ SMA_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace sma::core
