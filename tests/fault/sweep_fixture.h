#pragma once

#include <functional>
#include <iostream>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "agent/core/agent_fixture.h"
#include "fault/tally.h"

namespace sma::core {

/// An agent on a target in memory; every step of a call may fail, in any way, and anybody may die
/// at any step. A step is a call to the target or a write of the record.
class SweepFixture : public AgentFixture {
 protected:
  /// Devices by their NQNs; for each, its volumes with their limits of I/Os per second.
  using Model = std::map<std::string, std::map<std::string, uint64_t>>;

  struct Operation {
    std::string name;
    std::function<void()> prepare;
    std::function<absl::Status()> run;
    Model before;
    Model after;
    absl::StatusCode code = absl::StatusCode::kOk;  // what it is answered with when nothing fails
    bool removes = false;  // what failed may be finished all the same, later
  };

  using StepFault = std::function<spdk::Fault(uint64_t step)>;

  /// Kinds of operations, among them those that are answered with an error.
  std::vector<Operation> Operations();

  /// An empty record, a target with what an operator made, and what `operation` finds.
  void Begin(const Operation& operation);

  /// Asks `fault` before each step from now on; steps count from 0.
  void SetStepFault(StepFault fault);
  void EndStepFault();

  /// The agent is dead from step `step` on: nothing that it does has any effect. Whether it came
  /// so far is in died_.
  void DieAt(uint64_t step);

  /// Loses what the target had and makes what its configuration brings.
  void RestartTarget();

  /// Waits until nothing is left to finish and says what is wrong then. `status`: the answer of the
  /// call; nullopt: there was none.
  fault::Verdict Judge(const Operation& operation, const std::optional<absl::Status>& status);

  /// Adds a case to the table, and a failure where it is not good.
  void Conclude(const Operation& operation, const std::optional<absl::Status>& status,
                const std::string& where);
  void PrintTable(const std::string& title);

  /// Opens the agent, which may die before it serves; whether it serves.
  bool OpenUntilDeath();

  bool died_ = false;
  fault::Tally tally_;

 private:
  spdk::Fault NextStep();
  void MakeOperatorsThings();
  std::string OperatorsThings();
  Model OnTarget();
  Model InRecord();
  bool IsSettled();
  absl::Status SetLimit(int number, int volume, uint64_t rw_iops);

  base::Mutex mutex_;
  StepFault step_fault_ SMA_GUARDED_BY(mutex_);
  uint64_t steps_ SMA_GUARDED_BY(mutex_) = 0;
  std::string operators_things_;
};

}  // namespace sma::core
