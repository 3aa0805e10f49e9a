// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "agent/record/store.h"
#include "base/mutex.h"
#include "jsonrpc/caller.h"

namespace sma::fault {

/// Counts the agent's steps: each call to the target and each write of the record. At a planned
/// step, a process is killed by SIGKILL: the agent itself, or its target.
///
///  The plan is a file with the contents "STEP before|after VICTIM NUMBER": steps are counted from
///  1, beginning when the file is created; VICTIM is a process id, 0 for the agent itself; NUMBER
///  distinguishes one plan from the previous one. The file is removed just before the plan is
///  executed; removing or replacing it earlier cancels the plan.
class FailPoints {
 public:
  /// `plan_path` is the file with the plan. If it is empty, no process is killed.
  explicit FailPoints(std::string plan_path) : plan_path_(std::move(plan_path)) {}

  /// Called when a step starts; returns its number.
  uint64_t Begin();
  /// Called when the step has finished.
  void End(uint64_t step);
  /// Returns true if a process is killed at one of the next `count` steps.
  bool IsNear(size_t count);

 private:
  struct Plan {
    uint64_t step = 0;  // in the file: counted from its creation; here: as returned by Begin
    bool after = false;
    int victim = 0;
    int number = 0;
  };

  void ReadPlan() SMA_REQUIRES(mutex_);
  void Kill() SMA_REQUIRES(mutex_);

  const std::string plan_path_;
  base::Mutex mutex_;
  std::optional<Plan> plan_ SMA_GUARDED_BY(mutex_);
  uint64_t steps_ SMA_GUARDED_BY(mutex_) = 0;  // started steps
};

/// A connection to the target whose calls count as steps. If a process is to be killed at one of
/// several requests that are sent together, they are sent one by one, so that the earlier ones are
/// executed.
class FaultyCaller : public jsonrpc::Caller {
 public:
  FaultyCaller(jsonrpc::Caller& target, FailPoints& points) : target_(target), points_(points) {}

  std::vector<absl::StatusOr<jsonrpc::Json>> CallMany(
      const base::Context& context, std::span<const jsonrpc::Request> requests) override;
  uint64_t generation() const override { return target_.generation(); }
  bool MayActLate(std::span<const std::string> objects,
                  std::chrono::nanoseconds after_loss) const override {
    return target_.MayActLate(objects, after_loss);
  }

 private:
  jsonrpc::Caller& target_;
  FailPoints& points_;
};

/// A store whose writes count as steps.
class FaultyStore : public record::Store {
 public:
  FaultyStore(std::unique_ptr<record::Store> store, FailPoints& points)
      : store_(std::move(store)), points_(points) {}

  absl::StatusOr<record::Contents> Load() override { return store_->Load(); }
  absl::Status Commit(std::span<const record::Change* const> changes,
                      record::Durability durability) override;

 private:
  const std::unique_ptr<record::Store> store_;
  FailPoints& points_;
};

}  // namespace sma::fault
