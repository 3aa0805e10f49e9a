// SPDX-License-Identifier: Apache-2.0

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

/// The fault of one call to the target, or of one write of the record.
enum class StepFault {
  kNone,
  kRefuse,      // answered with an error, not executed
  kNotSent,     // the connection was lost before: not executed, and the caller knows that
  kDropCall,    // the connection is lost: not executed, and the caller does not know that
  kLoseAnswer,  // executed, then the connection is lost
  kHang,        // executed, but never answered
  kLate,        // never answered, and executed only by DoLate
};

/// The agent's connection to a simulated target. Thread-safe; requests are executed one at a time.
/// A request that a target would not answer before the caller's deadline immediately ends with
/// DEADLINE_EXCEEDED, unless the target is patient (SetPatient).
class SimTarget : public jsonrpc::Caller {
 public:
  SimTarget(Storage& storage, SimOptions options) : spdk_(storage, std::move(options)) {}

  std::vector<absl::StatusOr<jsonrpc::Json>> CallMany(
      const base::Context& context, std::span<const jsonrpc::Request> requests) override;
  uint64_t generation() const override;
  bool MayActLate(std::span<const std::string> objects,
                  std::chrono::nanoseconds after_loss) const override;

  /// Sets a function that is called before each request of the agent, in the order of execution.
  void SetFaultPlan(std::function<StepFault()> plan);
  /// Sets a function that is called after each new connection with its generation, without a lock.
  void SetOnConnect(std::function<void(uint64_t)> on_connect);
  /// Sets whether unanswered requests block their callers until the deadline.
  void SetPatient(bool patient);

  /// Executes the late requests.
  void DoLate();
  /// Simulates that the target is killed and restarted by its supervisor (see SimSpdk::Restart).
  void Restart();
  /// Sets whether the target answers nothing.
  void SetHung(bool hung);

  /// Calls a method as an operator's client would.
  absl::StatusOr<jsonrpc::Json> Operator(const std::string& method, jsonrpc::Json params);

  /// Calls `use` with the state while holding the lock.
  template <typename Use>
  auto With(Use use) {
    base::MutexLock lock(mutex_);
    return use(spdk_);
  }

  /// Sets the volumes, by UUID, whose hosts always have outstanding I/O: a namespace on a dead
  /// remote is not removed before that I/O has ended.
  void SetBusy(std::set<std::string> uuids);

  uint64_t calls() const;
  uint64_t round_trips() const;
  /// Returns the last 400 requests of the agent with their answers, abbreviated.
  std::vector<std::string> log() const;

 private:
  // A request that is executed later. `bdev` is the bdev of the namespace that it removes, if any.
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
