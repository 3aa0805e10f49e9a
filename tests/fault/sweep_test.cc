// SPDX-License-Identifier: Apache-2.0

// Tests that no object is lost, leaked or damaged by failures. Every call to the target, every
// command to QEMU and every write of the record fails in turn, in every way, alone and together
// with a later one. The agent dies at every step, and again while it recovers. The target and QEMU
// die at every step.

#include <gtest/gtest.h>

#include "fault/sweep_fixture.h"

namespace sma::core {
namespace {

using spdk::Fault;

constexpr const char* kFaultNames[] = {"none",        "refused", "busy", "not sent", "call lost",
                                       "answer lost", "hangs",   "late", "all late"};

std::string Name(Fault fault) { return kFaultNames[static_cast<int>(fault)]; }

using SweepTest = SweepFixture;

// Other groups differ from the local one in their steps, not in how failures are reported.
TEST_P(SweepTest, EachStepFails) {
  std::vector<Fault> faults{Fault::kRefuse, Fault::kDropCall, Fault::kLoseAnswer};
  if (GetParam() == Group::kLocal) {
    faults.push_back(Fault::kBusy);
    faults.push_back(Fault::kNotSent);
  }
  for (const Operation& operation : Operations()) {
    Rehearse(operation);
    for (Fault fault : faults) {
      bool hit = true;
      for (uint64_t failing = 0; hit; ++failing) {
        Begin(operation);
        hit = false;
        SetStepFault([&, failing](uint64_t step) {
          hit |= step == failing;
          return step == failing ? fault : Fault::kNone;
        });
        const absl::Status status = operation.run();
        EndStepFault();
        if (!hit) {
          EXPECT_EQ(status.code(), operation.code) << operation.name;
        }
        RecordResult(operation, status, Name(fault) + " at step " + std::to_string(failing));
      }
    }
  }
  PrintTable("each step fails");
  EXPECT_GT(tally_.cases(), 100);
}

TEST_P(SweepTest, EachStepFailsAndOneAfterIt) {
  const std::pair<Fault, Fault> kFaults[] = {{Fault::kRefuse, Fault::kRefuse},
                                             {Fault::kRefuse, Fault::kLoseAnswer},
                                             {Fault::kDropCall, Fault::kDropCall},
                                             {Fault::kLoseAnswer, Fault::kRefuse},
                                             {Fault::kLoseAnswer, Fault::kLoseAnswer}};
  for (const Operation& operation : Operations()) {
    if (!operation.is_main) continue;
    Rehearse(operation);
    for (const auto& [first, second] : kFaults) {
      bool first_hit = true;
      for (uint64_t i = Skip(1); first_hit; i += 1 + Skip(3)) {
        bool second_hit = true;
        for (uint64_t j = i + 1 + Skip(2); second_hit; j += 1 + Skip(4)) {
          Begin(operation);
          first_hit = second_hit = false;
          SetStepFault([&, i, j, first = first, second = second](uint64_t step) {
            first_hit |= step == i;
            second_hit |= step == j;
            return step == i ? first : step == j ? second : Fault::kNone;
          });
          const absl::Status status = operation.run();
          EndStepFault();
          RecordResult(operation, status,
                       Name(first) + " at step " + std::to_string(i) + ", " + Name(second) +
                           " at step " + std::to_string(j));
        }
      }
    }
  }
  PrintTable("two steps fail");
  EXPECT_GT(tally_.cases(), 30);
}

TEST_P(SweepTest, AgentDiesAtEachStep) {
  for (const Operation& operation : Operations()) {
    Rehearse(operation);
    for (bool target_restarts : {false, true}) {
      if (target_restarts && !operation.outlives_target) continue;
      bool died = true;
      for (uint64_t dies_at = 0; died; ++dies_at) {
        const auto status = RunUntilDeath(operation, dies_at);
        died = !status;
        if (target_restarts) RestartTarget();
        Open();
        RecordResult(operation, status, "dies at step " + std::to_string(dies_at));
      }
    }
  }
  PrintTable("the agent dies at each step");
  EXPECT_GT(tally_.cases(), 50);
}

TEST_P(SweepTest, AgentDiesAtEachStepAndAgainWhileItRecovers) {
  for (const Operation& operation : Operations()) {
    if (!operation.is_main) continue;
    Rehearse(operation);
    for (bool target_restarts : {false, true}) {
      bool died = true;
      for (uint64_t dies_at = Skip(1); died; dies_at += 1 + Skip(3)) {
        bool died_again = true;
        for (uint64_t again_at = Skip(2); died_again; again_at += 1 + Skip(6)) {
          const auto status = RunUntilDeath(operation, dies_at);
          died = !status;
          if (target_restarts) RestartTarget();
          DieAt(again_at);
          died_again = !OpenUntilDeath();
          Crash();
          EndStepFault();
          Open();
          RecordResult(operation, status,
                       "dies at step " + std::to_string(dies_at) + ", again at step " +
                           std::to_string(again_at));
        }
      }
    }
  }
  PrintTable("the agent dies at each step, and again while it recovers");
  EXPECT_GT(tally_.cases(), 10);
}

// The target restarts immediately, with only the objects of its configuration.
TEST_P(SweepTest, TargetDiesAtEachStep) {
  std::vector<Fault> faults{Fault::kLoseAnswer};
  if (GetParam() == Group::kLocal || has_machine()) faults.push_back(Fault::kDropCall);
  for (const Operation& operation : Operations()) {
    if (!operation.outlives_target) continue;
    Rehearse(operation);
    for (Fault fault : faults) {
      bool hit = true;
      for (uint64_t dies_at = 0; hit; ++dies_at) {
        Begin(operation);
        hit = false;
        std::atomic<bool> is_lost = false;
        target_.SetOnConnect([this, &is_lost](uint64_t generation) {
          core_->OnDisconnect(generation - 1, absl::UnavailableError("lost"));
          if (!is_lost.exchange(true)) {
            RestartTarget();
          } else {
            core_->OnConnect(generation);
          }
        });
        SetMachineFault(qmp::FakeQemu::Fault::kNone, [this, &is_lost] {
          is_lost = true;
          RestartTarget();
        });
        SetStepFault([&, dies_at](uint64_t step) {
          hit |= step == dies_at;
          return step == dies_at ? fault : Fault::kNone;
        });
        const absl::Status status = operation.run();
        EndStepFault();
        RecordResult(operation, status,
                     Name(fault) + ", it died at step " + std::to_string(dies_at));
        target_.SetOnConnect(nullptr);
      }
    }
  }
  PrintTable("the target dies at each step");
  EXPECT_GT(tally_.cases(), 50);
}

// The VM restarts immediately, with only the devices of its command line. The agent detects that in
// its next comparison.
TEST_P(SweepTest, MachineRestartsAtEachStep) {
  if (!has_machine()) return;
  for (const Operation& operation : Operations()) {
    Rehearse(operation);
    bool hit = true;
    for (uint64_t restarts_at = 0; hit; ++restarts_at) {
      Begin(operation);
      hit = false;
      SetStepFault([&, restarts_at](uint64_t step) {
        hit |= step == restarts_at;
        if (step == restarts_at) RestartMachine();
        return Fault::kNone;
      });
      const absl::Status status = operation.run();
      EndStepFault();
      CompareAgain();
      RecordResult(operation, status, "restarts at step " + std::to_string(restarts_at));
    }
  }
  PrintTable("QEMU restarts at each step");
  EXPECT_GT(tally_.cases(), 40);
}

INSTANTIATE_TEST_SUITE_P(Groups, SweepTest,
                         testing::Values(Group::kLocal, Group::kDiscovery, Group::kDirect,
                                         Group::kIscsi, Group::kEncrypted, Group::kEncryptedRemote,
                                         Group::kVhostBlk, Group::kVfioUser),
                         [](const auto& group) { return core::Name(group.param); });

}  // namespace
}  // namespace sma::core
