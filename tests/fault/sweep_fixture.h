#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "agent/core/agent_fixture.h"
#include "agent/qmp/fake_qemu.h"
#include "fault/tally.h"

namespace sma::core {

/// What an agent of a sweep has to do with.
enum class Group {
  kLocal,            // nvmf_tcp, volumes of the target's own
  kDiscovery,        // volumes that a discovery service brings
  kDirect,           // volumes of a remote subsystem, with two paths
  kIscsi,            // logical units
  kEncrypted,        // the key is the crypto bdev's own
  kEncryptedRemote,  // the key has a name of its own, the volume comes by discovery
  kVhostBlk,         // virtio-blk devices in a QEMU
  kVfioUser,         // NVMe devices in a QEMU
};
std::string Name(Group group);

/// An agent on a target in memory, with a QEMU in memory where there are devices for one; every
/// step of a call may fail, in any way, and anybody may die at any step. A step is a call to the
/// target, a command to QEMU or a write of the record.
class SweepFixture : public AgentFixture, public testing::WithParamInterface<Group> {
 protected:
  /// All that is there, a line for each thing: on the target, in the machine and its folder, and in
  /// the record.
  using State = std::set<std::string>;

  struct Operation {
    std::string name;
    std::function<void()> prepare;
    std::function<absl::Status()> run;
    absl::StatusCode code = absl::StatusCode::kOk;  // what it is answered with when nothing fails
    bool removes = false;         // what failed may be finished all the same, later
    bool is_main = true;          // whether it is gone through with two faults as well
    bool outlives_target = true;  // what it finds is there again after a restart of the target
    std::function<absl::Status()> take_back = nullptr;  // the call that undoes it, if there is one
  };

  using StepFault = std::function<spdk::Fault(uint64_t step)>;

  SweepFixture();
  ~SweepFixture() override;
  void SetUp() override;
  void TearDown() override;
  std::vector<std::unique_ptr<DeviceManager>> MakeManagers() override;

  /// Kinds of operations, among them those that are answered with an error.
  std::vector<Operation> Operations();

  /// Nothing but what is there before: device 0 with volume 1, which has limits.
  Operation DeviceWithLimits();

  /// Goes through `operation` once with nothing failing, and keeps what there is before and after.
  void Rehearse(const Operation& operation);

  /// An empty record, a target and a machine with what an operator made, and what `operation`
  /// finds.
  void Begin(const Operation& operation);

  /// Asks `fault` before each step from now on; steps count from 0.
  void SetStepFault(StepFault fault);
  void EndStepFault();
  /// What happens to a command to QEMU instead of the fault that its step is given: `happens` is
  /// called, no lock held, then the command ends with `fault`. Until EndStepFault.
  void SetMachineFault(qmp::FakeQemu::Fault fault, std::function<void()> happens = nullptr);

  /// The agent is dead from step `step` on: nothing that it does has any effect. Whether it came
  /// so far is in died_.
  void DieAt(uint64_t step);

  /// Loses what the target had and makes what its configuration brings.
  void RestartTarget();
  void RestartMachine();
  /// Has the agent compare all once more, as it does every drift period.
  void LookAgain();
  bool has_machine() const;

  /// How many steps to leave out of those that are gone through in combination with others: at
  /// random, `mean` on average; none with SMA_SWEEP_ALL in the environment. SMA_SWEEP_SEED repeats
  /// what a run with that seed did.
  uint64_t Skip(uint64_t mean);

  /// Waits until nothing is left to finish and says what is wrong then. `status`: the answer of the
  /// call; nullopt: there was none.
  fault::Verdict Judge(const Operation& operation, const std::optional<absl::Status>& status);

  /// Adds a case to the table, and a failure where it is not good.
  void Conclude(const Operation& operation, const std::optional<absl::Status>& status,
                const std::string& where);
  void PrintTable(const std::string& title);

  /// Opens the agent, which may die before it serves; whether it serves.
  bool OpenUntilDeath();

  State Now();
  qmp::FakeQemu& qemu() { return *qemu_; }

  bool died_ = false;
  fault::Tally tally_;

 private:
  // sweep_operations.cc
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

  // sweep_world.cc
  void MakeRemotes();
  void MakeOperatorsThings();
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
  State operators_;  // what was there before the agent did anything
  State before_;
  State after_;
  std::vector<const State*> allowed_;
};

}  // namespace sma::core
