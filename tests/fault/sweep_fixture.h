// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "agent/core/testing/agent_fixture.h"
#include "agent/qmp/testing/fake_qemu.h"
#include "fault/tally.h"

namespace sma::core {

/// The devices and volumes that an agent of a sweep uses.
enum class Group {
  kLocal,            // nvmf_tcp devices with the target's own volumes
  kDiscovery,        // volumes connected by a discovery service
  kDirect,           // volumes of a remote subsystem with two paths
  kIscsi,            // iSCSI logical units
  kEncrypted,        // the key belongs to the crypto bdev
  kEncryptedRemote,  // the key has its own name; the volume is connected by discovery
  kVhostBlk,         // virtio-blk devices in a QEMU
  kVfioUser,         // NVMe devices in a QEMU
};
std::string Name(Group group);

/// An agent with a target in memory, and a QEMU in memory for device types that need one. Tests can
/// make every step of a call fail in any way, and any process die at any step. A step is a call to
/// the target, a command to QEMU or a write of the record.
class SweepFixture : public AgentFixture, public testing::WithParamInterface<Group> {
 protected:
  /// All existing objects, one line for each: on the target, in the VM and its folder, and in the
  /// record.
  using State = std::set<std::string>;

  struct Operation {
    std::string name;
    std::function<void()> prepare;
    std::function<absl::Status()> run;
    absl::StatusCode code = absl::StatusCode::kOk;  // the status without faults
    bool removes = false;         // the removal may be finished later, although the call failed
    bool is_main = true;          // the operation is also tested with two faults
    bool outlives_target = true;  // its prerequisites exist again after a target restart
    std::function<absl::Status()> undo = nullptr;  // the inverse call, if there is one
  };

  using StepFault = std::function<spdk::Fault(uint64_t step)>;

  SweepFixture();
  ~SweepFixture() override;
  void SetUp() override;
  void TearDown() override;
  std::vector<std::unique_ptr<DeviceManager>> MakeManagers() override;

  /// Returns all kinds of operations, including those that return an error.
  std::vector<Operation> Operations();

  /// Creates only the initial objects: device 0 with volume 1, which has limits.
  Operation DeviceWithLimits();

  /// Runs `operation` once without faults, and stores the objects that exist before and after it.
  void Rehearse(const Operation& operation);

  /// Starts with an empty record, a target and a VM with the operator's objects, and the objects
  /// that `operation` needs.
  void Begin(const Operation& operation);

  /// Calls `fault` before each step from now on; steps count from 0.
  void SetStepFault(StepFault fault);
  void EndStepFault();
  /// Until EndStepFault, a step fault that occurs in a command to QEMU is replaced: `happens` is
  /// called without a lock held, and then the command ends with `fault`.
  void SetMachineFault(qmp::FakeQemu::Fault fault, std::function<void()> happens = nullptr);

  /// The agent is dead from step `step` on: its later actions have no effect. died_ is set if that
  /// step was reached.
  void DieAt(uint64_t step);

  /// Removes all objects of the target, and recreates those of its configuration.
  void RestartTarget();
  void RestartMachine();
  /// Makes the agent compare all objects again, as it does in every drift period.
  void CompareAgain();
  bool has_machine() const;

  /// Returns how many steps to omit before the next one that is tested in combination with others:
  /// a random number, `mean` on average; 0 if the environment has SMA_SWEEP_ALL. SMA_SWEEP_SEED
  /// repeats a run with that seed.
  uint64_t Skip(uint64_t mean);

  /// Waits until the agent has finished, and returns the verdict. `status` is the result of the
  /// call; nullopt if there was none.
  fault::Verdict CheckResult(const Operation& operation, const std::optional<absl::Status>& status);

  /// Adds a case to the table, and reports a failure if its verdict is not good.
  void RecordResult(const Operation& operation, const std::optional<absl::Status>& status,
                    const std::string& where);
  void PrintTable(const std::string& title);

  /// Runs the operation with an agent that dies at the step `dies_at`, and then ends the agent.
  /// Returns the result of the call; nullopt if the agent died before it returned.
  std::optional<absl::Status> RunUntilDeath(const Operation& operation, uint64_t dies_at);

  /// Opens the agent, which may die before it serves; returns true if it serves.
  bool OpenUntilDeath();

  State Now();
  qmp::FakeQemu& qemu() { return *qemu_; }

  bool died_ = false;
  fault::Tally tally_;

 private:
  // Defined in sweep_operations.cc.
  std::vector<Operation> VolumeOperations();
  std::vector<Operation> LocalOperations();
  std::vector<Operation> EncryptionOperations();
  std::vector<Operation> VhostOperations();
  VolumeParameters Volume(int number);
  CreateDeviceRequest DeviceRequest(int number, int volume = 0);
  std::string DeviceHandle(int number) const;
  absl::Status CreateWith(int number, int volume = 0);
  absl::Status AttachWith(int volume);
  absl::Status SetLimit(int volume, uint64_t rw_iops);
  void Prepare(std::initializer_list<int> volumes);

  // Defined in sweep_world.cc.
  void MakeRemotes();
  void MakeOperatorsThings();
  /// Returns true if the record has an object whose removal is not complete.
  bool HasRemovals() const;
  void AddRecordTo(State& state) const;

  spdk::Fault NextStep();
  qmp::FakeQemu::Fault NextMachineStep();
  bool IsAllowed(const State& state) const;

  base::Mutex mutex_;
  StepFault step_fault_ SMA_GUARDED_BY(mutex_);
  std::optional<qmp::FakeQemu::Fault> machine_fault_ SMA_GUARDED_BY(mutex_);
  std::function<void()> machine_faulted_ SMA_GUARDED_BY(mutex_);
  uint64_t steps_ SMA_GUARDED_BY(mutex_) = 0;
  uint64_t seed_ = 0;
  std::mt19937_64 random_;
  std::string folder_;
  std::unique_ptr<qmp::FakeQemu> qemu_;
  State operators_;  // the objects that existed before the agent did anything
  State before_;
  State after_;
  std::vector<const State*> allowed_;
};

}  // namespace sma::core
