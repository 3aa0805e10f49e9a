#pragma once

#include <functional>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "jsonrpc/call_scope.h"
#include "jsonrpc/caller.h"
#include "worlds/sim_spdk.h"

namespace sma::worlds {

/// What goes wrong with one call of the agent's to the target, or one write of its record.
enum class StepFault {
  kNone,
  kRefuse,      // answered with an error, nothing done
  kNotSent,     // the connection was lost before: nothing done, and the caller knows it
  kDropCall,    // the connection is lost: nothing done, and the caller does not know it
  kLoseAnswer,  // done, then the connection is lost
  kHang,        // done, but never answered
  kLate,        // never answered, and done only by DoLate
};

/// The agent's connection to a simulated target. Thread-safe; requests are executed one after the
/// other. A request that a target would not answer before the caller's deadline ends with
/// DEADLINE_EXCEEDED at once, unless the target is made patient.
class SimTarget : public jsonrpc::Caller {
 public:
  SimTarget(Storage& storage, SimOptions options) : spdk_(storage, std::move(options)) {}

  std::vector<absl::StatusOr<jsonrpc::Json>> CallMany(
      const base::Context& context, std::span<const jsonrpc::Request> requests) override;
  uint64_t generation() const override;
  bool MayActLate(std::span<const std::string> objects,
                  std::chrono::nanoseconds after_loss) const override;

  /// Asked before each request of the agent's, in the order of their execution.
  void SetFaultPlan(std::function<StepFault()> plan);
  /// Called after each new connection with its generation, no lock held.
  void SetOnConnect(std::function<void(uint64_t)> on_connect);
  /// Whether requests that are not answered keep their callers until the deadline.
  void SetPatient(bool patient);

  /// The target executes what it was late with.
  void DoLate();
  /// The target is killed and started again by its supervisor: see SimSpdk::Restart.
  void Restart();
  /// The target answers nothing from now on, or does again.
  void SetHung(bool hung);

  /// As an operator's client calls it.
  absl::StatusOr<jsonrpc::Json> Operator(const std::string& method, jsonrpc::Json params);

  /// Calls `use` with the state, under the lock.
  template <typename Use>
  auto With(Use use) {
    base::MutexLock lock(mutex_);
    return use(spdk_);
  }

  /// Volumes, by UUID, whose hosts have I/O under way at all times: a namespace on a dead remote is
  /// not removed before that I/O has ended.
  void SetBusy(std::set<std::string> uuids);

  uint64_t calls() const;
  uint64_t round_trips() const;
  /// Each request of the agent's and its answer in short, the last 400.
  std::vector<std::string> log() const;

 private:
  // A request that is executed later. `bdev`: of the namespace that it removes.
  struct Late {
    jsonrpc::Request request;
    std::string bdev;
    jsonrpc::CallObjects objects;
  };

  std::string RemovedBdev(const jsonrpc::Request& request) SMA_REQUIRES(mutex_);
  std::chrono::milliseconds WaitOf(const jsonrpc::Request& request) SMA_REQUIRES(mutex_);
  bool IsStuck(const jsonrpc::Request& request) SMA_REQUIRES(mutex_);
  absl::StatusOr<jsonrpc::Json> FinishStuck(const base::Context& context,
                                            const jsonrpc::Request& request);
  bool WouldHang(const jsonrpc::Request& request) SMA_REQUIRES(mutex_);
  absl::StatusOr<jsonrpc::Json> Execute(const jsonrpc::Request& request) SMA_REQUIRES(mutex_);

  mutable base::Mutex mutex_;
  SimSpdk spdk_ SMA_GUARDED_BY(mutex_);
  std::function<StepFault()> plan_ SMA_GUARDED_BY(mutex_);
  std::function<void(uint64_t)> on_connect_ SMA_GUARDED_BY(mutex_);
  std::vector<Late> late_ SMA_GUARDED_BY(mutex_);
  std::set<std::string> busy_ SMA_GUARDED_BY(mutex_);
  std::vector<std::string> log_ SMA_GUARDED_BY(mutex_);
  bool is_patient_ SMA_GUARDED_BY(mutex_) = false;
  bool is_hung_ SMA_GUARDED_BY(mutex_) = false;
  uint64_t generation_ SMA_GUARDED_BY(mutex_) = 1;
  uint64_t calls_ SMA_GUARDED_BY(mutex_) = 0;
  uint64_t round_trips_ SMA_GUARDED_BY(mutex_) = 0;
};

}  // namespace sma::worlds
