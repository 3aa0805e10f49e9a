// SPDX-License-Identifier: Apache-2.0

// Tests a target or a QEMU that does not answer within the deadline of the call and executes the
// request later, either before the call ends or long afterwards, possibly in a different order. In
// the end, all effects of the call must be undone, even if the client immediately repeats or undoes
// it.

#include <gtest/gtest.h>

#include <chrono>
#include <span>
#include <string>

#include "fault/sweep_fixture.h"

namespace sma::core {
namespace {

using spdk::Fault;

// A call without a hanging step is faster than this; calls with one end at this deadline.
constexpr std::chrono::milliseconds kDeadline{5};
constexpr uint64_t kMaxSteps = 200;

struct Lateness {
  Fault fault;
  uint64_t after_calls;  // 0: when the call has ended
  bool reversed;
};
constexpr Lateness kLateness[] = {{Fault::kLate, 1, false},
                                  {Fault::kLate, 3, false},
                                  {Fault::kLateAll, 1, true},
                                  {Fault::kLateAll, 0, true}};
constexpr std::span kBeforeTheEnd = std::span(kLateness).first<3>();

class SweepLateTest : public SweepFixture {
 protected:
  // Makes the caller cancel the call at `step`, and the target executes that step later. Returns
  // true if the step was reached.
  bool GiveUpAt(const Operation& operation, uint64_t step, const Lateness& lateness,
                absl::Status& status) {
    Begin(operation);
    target_.SetLate(lateness.after_calls, lateness.reversed);
    bool hit = false;
    SetStepFault([&, step](uint64_t at) {
      if (at != step) return Fault::kNone;
      hit = true;
      context_.Cancel();
      return lateness.fault;
    });
    status = operation.run();
    EndStepFault();
    context_ = base::Context::Background();
    return hit;
  }

  // Cancels each `wanted` operation at each of its steps and then calls `then` (operation,
  // lateness, its status, where).
  template <typename Wanted, typename Then>
  void GiveUpAtEachStep(std::span<const Lateness> all, const Wanted& wanted, const Then& then) {
    for (const Operation& operation : Operations()) {
      if (!wanted(operation)) continue;
      Rehearse(operation);
      for (const Lateness& lateness : all) {
        bool hit = true;
        for (uint64_t step = Skip(1); hit; step += 1 + Skip(2)) {
          absl::Status status;
          hit = GiveUpAt(operation, step, lateness, status);
          then(operation, lateness, status, Where(step, lateness));
        }
      }
    }
  }
  static bool IsMain(const Operation& operation) { return operation.is_main; }

  static std::string Where(uint64_t step, const Lateness& lateness) {
    return "cancelled at step " + std::to_string(step) + ", done " +
           std::to_string(lateness.after_calls) + " calls later" +
           (lateness.fault == Fault::kLateAll ? ", all that follows too" : "") +
           (lateness.reversed ? ", reversed" : "");
  }
};

TEST_P(SweepLateTest, CallerCancelsAtEachStep) {
  for (const Operation& operation : Operations()) {
    Rehearse(operation);
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
      RecordResult(operation, status, "cancelled at step " + std::to_string(hanging));
    }
  }
  PrintTable("the caller gives up at each step");
  EXPECT_GT(tally_.cases(), 30);
}

// A hanging step has been executed, unless the connection was lost.
TEST_P(SweepLateTest, DeadlinePassesAtEachStep) {
  std::vector<Fault> faults{Fault::kHang};
  if (GetParam() == Group::kLocal || has_machine()) faults.push_back(Fault::kDropCall);
  for (const Operation& operation : Operations()) {
    Rehearse(operation);
    for (Fault fault : faults) {
      bool hit = true;
      absl::Status status = absl::DeadlineExceededError("");
      for (uint64_t step = 0; (hit || absl::IsDeadlineExceeded(status)) && step < kMaxSteps;
           ++step) {
        Begin(operation);
        context_ = base::Context::WithTimeout(kDeadline);
        hit = false;
        SetStepFault([&, step](uint64_t at) {
          if (at != step) return Fault::kNone;
          hit = true;
          EXPECT_FALSE(context_.SleepUntil(base::TimePoint::max()).ok());
          return fault;
        });
        status = operation.run();
        EndStepFault();
        RecordResult(operation, status, "deadline passed at step " + std::to_string(step));
      }
    }
  }
  PrintTable("the deadline passes at each step");
  EXPECT_GT(tally_.cases(), 40);
}

TEST_P(SweepLateTest, TargetActsLater) {
  GiveUpAtEachStep(kLateness, IsMain,
                   [this](const Operation& operation, const Lateness& lateness,
                          const absl::Status& status, const std::string& where) {
                     if (lateness.after_calls == 0) target_.DoLate();
                     RecordResult(operation, status, where);
                   });
  PrintTable("the target acts after its caller has given up");
  EXPECT_GT(tally_.cases(), 20);
}

// The second call waits for late effects of the first, or returns a status that tells the client to
// retry.
TEST_P(SweepLateTest, TargetActsLaterAndTheCallIsRepeated) {
  GiveUpAtEachStep(kBeforeTheEnd, IsMain,
                   [this](const Operation& operation, const Lateness&, const absl::Status&,
                          const std::string& where) {
                     const absl::Status status = operation.run();
                     target_.DoLate();
                     if (operation.code == absl::StatusCode::kOk && !operation.removes) {
                       EXPECT_TRUE(status.ok()) << operation.name << " again: " << status;
                     }
                     RecordResult(operation, status, where + ", then again");
                   });
  PrintTable("the same, and the call is repeated");
  EXPECT_GT(tally_.cases(), 20);
}

TEST_P(SweepLateTest, TargetActsLaterAfterTheCallWasUndone) {
  GiveUpAtEachStep(
      kLateness, [](const Operation& operation) { return bool{operation.undo}; },
      [this](const Operation& operation, const Lateness& lateness, const absl::Status&,
             const std::string& where) {
        if (lateness.after_calls == 0) target_.DoLate();
        operation.undo().IgnoreError();
        target_.DoLate();
        RecordResult(operation, absl::CancelledError("undone"), where + ", then undone");
      });
  PrintTable("the same, and what was asked for is taken back");
  EXPECT_GT(tally_.cases(), 3);
}

// A device that was deleted by hand is recreated by a repeated call; the caller cancels the call
// and deletes the device, and then the target finishes creating it.
TEST_P(SweepLateTest, TargetActsLaterOnARestoredDevice) {
  if (GetParam() != Group::kLocal) return;
  auto nothing = [] { return absl::OkStatus(); };
  Begin({.name = "nothing", .prepare = [] {}, .run = nothing});
  const State empty = Now();
  const Operation restore{.name = "create what was deleted",
                          .prepare = [this] { ASSERT_TRUE(Create(0, 1).ok()); },
                          .run =
                              [this] {
                                Operator("nvmf_delete_subsystem", {{"nqn", Nqn(0)}});
                                return Create(0, 1);
                              }};
  for (const Lateness& lateness : kLateness) {
    bool hit = true;
    for (uint64_t step = 0; hit; ++step) {
      absl::Status status;
      hit = GiveUpAt(restore, step, lateness, status);
      EXPECT_TRUE(Delete(Handle(0)).ok());
      target_.DoLate();
      WaitFor([&] { return Now() == empty; });
      if (HasFailure()) FAIL() << Where(step, lateness);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Groups, SweepLateTest,
                         testing::Values(Group::kLocal, Group::kDiscovery, Group::kDirect,
                                         Group::kIscsi, Group::kEncrypted, Group::kEncryptedRemote,
                                         Group::kVhostBlk, Group::kVfioUser),
                         [](const auto& group) { return Name(group.param); });

}  // namespace
}  // namespace sma::core
