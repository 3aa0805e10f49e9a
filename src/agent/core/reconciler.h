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

/// Keeps the target as the record says, by a TypeLoop for each device type, and knows whether calls
/// can be served: there is a connection to the target, it answers, and the devices that depend on
/// it alone were compared with the record. A thread of its own asks the target every health period.
class Reconciler {
 public:
  /// `serving_changed` is called, from any thread but never from two at once, when it changes
  /// whether calls can be served.
  Reconciler(Core& core, std::function<void(bool serving)> serving_changed);
  ~Reconciler();

  void Start();
  /// Ends the threads; what they were doing is given up. Idempotent.
  void Stop();

  // From any thread; they do not block.
  void Wake(const std::string& handle);
  void OnConnect();
  void OnDisconnect(const absl::Status& reason);

  /// OK, or UNAVAILABLE: the target is connected and does not answer.
  absl::Status TargetStatus() const;
  /// Whether the device was compared with the target since the connect.
  bool IsCompared(const std::string& manager) const;

  /// `serving`, `target` and `restore` of the status, why it is not serving, and `started`.
  void FillStatus(admin::v1::Status& status) const;

 private:
  void Run();
  /// Asks the target whether it answers; its version.
  void Probe(uint64_t generation);
  void BeginLoops(uint64_t generation);
  void TellUnservedDevices();
  void DropOldLimits();
  void UpdateServing();
  bool IsStarted(uint64_t generation) const SMA_REQUIRES(mutex_);
  std::string WhyNotServing() const SMA_REQUIRES(mutex_);

  Core& core_;
  const std::function<void(bool)> serving_changed_;
  const base::Context context_ = base::Context::Background();
  const record::Time started_ = std::chrono::system_clock::now();
  std::vector<std::unique_ptr<TypeLoop>> loops_;

  base::Mutex serving_mutex_;  // held while serving_changed_ runs
  mutable base::Mutex mutex_;
  base::CondVar changed_;
  bool stopping_ SMA_GUARDED_BY(mutex_) = false;
  bool woken_ SMA_GUARDED_BY(mutex_) = false;
  bool serving_ SMA_GUARDED_BY(mutex_) = false;
  bool connected_ SMA_GUARDED_BY(mutex_) = false;
  bool to_begin_ SMA_GUARDED_BY(mutex_) = false;
  record::Time connection_changed_ SMA_GUARDED_BY(mutex_) = started_;
  base::TimePoint connected_at_ SMA_GUARDED_BY(mutex_);
  record::LastError target_error_ SMA_GUARDED_BY(mutex_);
  absl::Status hung_ SMA_GUARDED_BY(mutex_);
  std::string target_version_ SMA_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace sma::core
