// The target or QEMU does not answer in the time of the call, and does what it was asked for all
// the same: before the call ends, or long after, in another order than it was asked. What the call
// began must be gone in the end, also where the client asks for it again at once, or takes it back.

#include <gtest/gtest.h>

#include <chrono>
#include <span>
#include <string>

#include "fault/sweep_fixture.h"

namespace sma::core {
namespace {

using spdk::Fault;

// A call takes less than that as long as nothing hangs; where it does not, it ends sooner.
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
  // The caller gives up at `step`, and the target acts on it later. Whether it came so far.
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

  // `then` (operation, lateness, its status, where) goes on from each step at which the caller of
  // an operation that is `wanted` gave up.
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
    return "gives up at step " + std::to_string(step) + ", done " +
           std::to_string(lateness.after_calls) + " calls later" +
           (lateness.fault == Fault::kLateAll ? ", all that follows too" : "") +
           (lateness.reversed ? ", reversed" : "");
  }
};

TEST_P(SweepLateTest, CallerGivesUpAtEachStep) {
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
      Conclude(operation, status, "gives up at step " + std::to_string(hanging));
    }
  }
  PrintTable("the caller gives up at each step");
  EXPECT_GT(tally_.cases(), 30);
}

// What hangs has been done or, where the connection is lost, not.
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
        Conclude(operation, status, "its time is over at step " + std::to_string(step));
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
                     Conclude(operation, status, where);
                   });
  PrintTable("the target acts after its caller has given up");
  EXPECT_GT(tally_.cases(), 20);
}

// Whether the second call waits for what may still be done, or is told to come again.
TEST_P(SweepLateTest, TargetActsLaterAndTheCallIsRepeated) {
  GiveUpAtEachStep(kBeforeTheEnd, IsMain,
                   [this](const Operation& operation, const Lateness&, const absl::Status&,
                          const std::string& where) {
                     const absl::Status status = operation.run();
                     target_.DoLate();
                     if (operation.code == absl::StatusCode::kOk && !operation.removes) {
                       EXPECT_TRUE(status.ok()) << operation.name << " again: " << status;
                     }
                     Conclude(operation, status, where + ", then again");
                   });
  PrintTable("the same, and the call is repeated");
  EXPECT_GT(tally_.cases(), 20);
}

TEST_P(SweepLateTest, TargetActsLaterOnWhatWasTakenBack) {
  GiveUpAtEachStep(
      kLateness, [](const Operation& operation) { return bool{operation.take_back}; },
      [this](const Operation& operation, const Lateness& lateness, const absl::Status&,
             const std::string& where) {
        if (lateness.after_calls == 0) target_.DoLate();
        operation.take_back().IgnoreError();
        target_.DoLate();
        Conclude(operation, absl::CancelledError("taken back"), where + ", then taken back");
      });
  PrintTable("the same, and what was asked for is taken back");
  EXPECT_GT(tally_.cases(), 3);
}

// A device that somebody has deleted is made again when it is asked for again; the caller gives up,
// deletes it, and the target goes on making it.
TEST_P(SweepLateTest, TargetActsLaterOnWhatWasRestored) {
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
