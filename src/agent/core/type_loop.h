#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "agent/core/core.h"
#include "agent/core/domain_runner.h"
#include "agent/core/restore.h"
#include "base/context.h"
#include "base/mutex.h"
#include "sma/device_manager.h"

namespace sma::core {

/// Keeps the devices of one type on the target as the record says, in a thread of its own: compares
/// all of them after each connect and every drift period, and looks again at single devices that
/// are not complete, or of which a call left something, with a back-off for each. A type that hangs
/// or fails holds up no other, and a device no other device.
class TypeLoop {
 public:
  /// How far the comparison of all devices has come.
  struct Progress {
    bool is_active = false;
    uint32_t total = 0;
    uint32_t done = 0;
    uint32_t failed = 0;
  };

  /// Both references outlive this. `local_done` is called whenever IsLocalDone changes.
  TypeLoop(Core& core, DeviceManager& manager, std::function<void()> local_done);
  ~TypeLoop();

  void Start();
  /// Ends the thread; what it was doing is given up. Idempotent.
  void Stop();

  // From any thread; they do not block.

  /// There is a connection to the target, the `generation`th: compares everything now.
  void Begin(uint64_t generation);
  void OnDisconnect();
  /// Looks at one device now.
  void Wake(const std::string& handle);

  /// Whether all devices that depend on the target alone were compared over this connection, or
  /// cannot be now.
  bool IsLocalDone(uint64_t generation) const;
  Progress progress() const;
  /// Why the type cannot be used now; OK: it can.
  absl::Status error() const;
  const DeviceManager& manager() const { return manager_; }

 private:
  struct Retry {
    base::TimePoint due;
    std::chrono::nanoseconds pause;
    bool since_connect = false;  // it is missing since the connect: it is repaired in any case
    base::TimePoint woken{};     // by Wake, the last time
  };

  void Run();
  void ComparePass(uint64_t generation);
  absl::StatusOr<std::unique_ptr<DeviceListing>> PrepareAndList();
  void FailPass(const absl::Status& error, const std::vector<record::Device>& devices);
  void RestoreEach(const std::vector<record::Device>& devices, const RestoreOptions& options,
                   bool is_new);
  void RestoreDue(const std::vector<std::string>& handles);
  /// Asks the target what it is connected to for these volumes.
  void LookAtConnections(const std::vector<record::Volume>& volumes);
  /// What to do about a device after a look at it, no earlier than `begin`, that ended with
  /// `status`.
  void Note(const std::string& handle, const absl::Status& status, bool since_connect,
            base::TimePoint begin);
  void SetLocalDone(uint64_t generation);
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
  base::TimePoint next_pass_ SMA_GUARDED_BY(mutex_) = base::TimePoint::max();
  std::chrono::nanoseconds pass_pause_ SMA_GUARDED_BY(mutex_);
  std::map<std::string, Retry> retries_ SMA_GUARDED_BY(mutex_);
  uint64_t local_generation_ SMA_GUARDED_BY(mutex_) = 0;
  absl::Status error_ SMA_GUARDED_BY(mutex_);
  Progress progress_ SMA_GUARDED_BY(mutex_);
  // thread_'s own.
  uint64_t passed_generation_ = 0;  // of the connection over which all were compared
  size_t pass_count_ = 0;
  std::thread thread_;
};

}  // namespace sma::core
