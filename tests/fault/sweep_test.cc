// Every call to the target and every write of the record fails in turn, in every way, and so does
// what comes after; the agent dies at every step, and again while it recovers; the target dies at
// every step. Afterwards nothing may be lost, left over or harmed.

#include <gtest/gtest.h>

#include "fault/sweep_fixture.h"

namespace sma::core {
namespace {

using spdk::Fault;

constexpr const char* kFaultNames[] = {"none",      "refused",     "busy", "not sent",
                                       "call lost", "answer lost", "hangs"};

std::string Name(Fault fault) { return kFaultNames[static_cast<int>(fault)]; }

using SweepTest = SweepFixture;

TEST_F(SweepTest, EachStepFails) {
  for (const Operation& operation : Operations()) {
    for (Fault fault :
         {Fault::kRefuse, Fault::kBusy, Fault::kNotSent, Fault::kDropCall, Fault::kLoseAnswer}) {
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
        Conclude(operation, status, Name(fault) + " at step " + std::to_string(failing));
      }
    }
  }
  PrintTable("Each step fails");
  EXPECT_GT(tally_.cases(), 250);
}

TEST_F(SweepTest, EachStepFailsAndOneAfterIt) {
  const Fault kFaults[] = {Fault::kRefuse, Fault::kDropCall, Fault::kLoseAnswer};
  for (const Operation& operation : Operations()) {
    for (Fault first : kFaults) {
      for (Fault second : kFaults) {
        bool first_hit = true;
        for (uint64_t i = 0; first_hit; ++i) {
          bool second_hit = true;
          for (uint64_t j = i + 1; second_hit; ++j) {
            Begin(operation);
            first_hit = second_hit = false;
            SetStepFault([&, i, j](uint64_t step) {
              first_hit |= step == i;
              second_hit |= step == j;
              return step == i ? first : step == j ? second : Fault::kNone;
            });
            const absl::Status status = operation.run();
            EndStepFault();
            Conclude(operation, status,
                     Name(first) + " at step " + std::to_string(i) + ", " + Name(second) +
                         " at step " + std::to_string(j));
          }
        }
      }
    }
  }
  PrintTable("Two steps fail");
  EXPECT_GT(tally_.cases(), 1000);
}

// The target has done what it was asked for, and the caller gives up before it says so.
TEST_F(SweepTest, CallerGivesUpAtEachStep) {
  for (const Operation& operation : Operations()) {
    bool hit = true;
    for (uint64_t hanging = 0; hit; ++hanging) {
      Begin(operation);
      hit = false;
      SetStepFault([&, hanging](uint64_t step) {
        if (step != hanging) return Fault::kNone;
        hit = true;
        context_.Cancel();
        return Fault::kHang;
      });
      const absl::Status status = operation.run();
      EndStepFault();
      Conclude(operation, status, "gives up at step " + std::to_string(hanging));
    }
  }
  PrintTable("The caller gives up at each step");
  EXPECT_GT(tally_.cases(), 50);
}

TEST_F(SweepTest, AgentDiesAtEachStep) {
  for (const Operation& operation : Operations()) {
    for (bool target_restarts : {false, true}) {
      bool died = true;
      for (uint64_t dies_at = 0; died; ++dies_at) {
        Begin(operation);
        target_.SetOnConnect(nullptr);
        DieAt(dies_at);
        const absl::Status status = operation.run();
        died = died_;
        Crash();
        EndStepFault();
        if (target_restarts) RestartTarget();
        Open();
        Conclude(operation, died ? std::nullopt : std::optional(status),
                 "dies at step " + std::to_string(dies_at));
      }
    }
  }
  PrintTable("The agent dies at each step");
  EXPECT_GT(tally_.cases(), 100);
}

TEST_F(SweepTest, AgentDiesAtEachStepAndAgainWhileItRecovers) {
  for (const Operation& operation : Operations()) {
    for (bool target_restarts : {false, true}) {
      bool died = true;
      for (uint64_t dies_at = 0; died; ++dies_at) {
        bool died_again = true;
        for (uint64_t again_at = 0; died_again; ++again_at) {
          Begin(operation);
          target_.SetOnConnect(nullptr);
          DieAt(dies_at);
          const absl::Status status = operation.run();
          died = died_;
          Crash();
          EndStepFault();
          if (target_restarts) RestartTarget();
          DieAt(again_at);
          died_again = !OpenUntilDeath();
          Crash();
          EndStepFault();
          Open();
          Conclude(operation, died ? std::nullopt : std::optional(status),
                   "dies at step " + std::to_string(dies_at) + ", again at step " +
                       std::to_string(again_at));
        }
      }
    }
  }
  PrintTable("The agent dies at each step, and again while it recovers");
  EXPECT_GT(tally_.cases(), 500);
}

// It is back at once, with what its configuration brings and nothing else.
TEST_F(SweepTest, TargetDiesAtEachStep) {
  for (const Operation& operation : Operations()) {
    for (Fault fault : {Fault::kDropCall, Fault::kLoseAnswer}) {
      bool hit = true;
      for (uint64_t dies_at = 0; hit; ++dies_at) {
        Begin(operation);
        hit = false;
        bool is_lost = false;
        target_.SetOnConnect([this, &is_lost](uint64_t generation) {
          core_->OnDisconnect(generation - 1, absl::UnavailableError("lost"));
          if (!is_lost) {
            is_lost = true;
            RestartTarget();
          } else {
            core_->OnConnect(generation);
          }
        });
        SetStepFault([&, dies_at](uint64_t step) {
          hit |= step == dies_at;
          return step == dies_at ? fault : Fault::kNone;
        });
        const absl::Status status = operation.run();
        EndStepFault();
        Conclude(operation, status, Name(fault) + ", it died at step " + std::to_string(dies_at));
        target_.SetOnConnect(nullptr);
      }
    }
  }
  PrintTable("The target dies at each step");
  EXPECT_GT(tally_.cases(), 100);
}

}  // namespace
}  // namespace sma::core
