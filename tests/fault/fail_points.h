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

/// Numbers the agent's steps: each call to the target and each write of the record. At the step
/// that is asked for, somebody dies by SIGKILL: the agent itself, or its target.
///
/// What is asked for stands in a file, "STEP before|after VICTIM NUMBER": the step is counted from
/// 1 from the time when the file is there; VICTIM is a process id, 0 for the agent itself; NUMBER
/// tells one plan from the last. The file is removed just before the plan is carried out; who
/// removes or replaces it first takes it back.
class FailPoints {
 public:
  /// `plan_path`: the file; empty: nobody ever dies.
  explicit FailPoints(std::string plan_path) : plan_path_(std::move(plan_path)) {}

  /// The number of the step that begins.
  uint64_t Begin();
  /// The step is done.
  void End(uint64_t step);
  /// Whether somebody dies at one of the next `count` steps.
  bool IsNear(size_t count);

 private:
  struct Plan {
    uint64_t step = 0;  // in the file from when it is there, here as Begin numbers them
    bool after = false;
    int victim = 0;
    int number = 0;
  };

  void Look() SMA_REQUIRES(mutex_);
  void Kill() SMA_REQUIRES(mutex_);

  const std::string plan_path_;
  base::Mutex mutex_;
  std::optional<Plan> plan_ SMA_GUARDED_BY(mutex_);
  uint64_t steps_ SMA_GUARDED_BY(mutex_) = 0;  // begun
};

/// A target whose calls are steps. Requests that are sent together go one after the other from the
/// step on at which somebody dies, so that those before it have been done.
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

/// A store whose writes are steps.
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
