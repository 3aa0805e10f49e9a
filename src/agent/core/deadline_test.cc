// SPDX-License-Identifier: Apache-2.0

// Tests calls whose deadline passes while they are in progress.

#include <functional>

#include "agent/core/testing/agent_fixture.h"

namespace sma::core {
namespace {

using absl::StatusCode;
using std::chrono::milliseconds;

class DeadlineTest : public AgentFixture {
 protected:
  /// Runs `call` on a new agent; the deadline passes during call number `step` to the target.
  /// Returns true if the call made that many calls.
  bool RunWithHang(const std::function<void()>& prepare, uint64_t step,
                   const std::function<absl::Status()>& call) {
    Crash();
    target_.SetFaultPlan(nullptr);
    target_.Restart();
    *disk_ = {};
    Open();
    for (int i = 1; i <= 2; ++i) target_.AddBdev(VolumeUuid(i));
    context_ = base::Context::Background();
    prepare();
    target_.ResetCounts();
    std::atomic<bool> is_hit = false;
    context_ = base::Context::WithTimeout(milliseconds(60));
    target_.SetImpatient(true);  // calls whose outcome must be known wait past the deadline
    target_.SetFaultPlan([this, &is_hit, step](uint64_t index, const jsonrpc::Request&) {
      if (index != step) return spdk::Fault::kNone;
      is_hit = true;
      context_.SleepUntil(base::TimePoint::max()).IgnoreError();
      return spdk::Fault::kHang;
    });
    const absl::Status status = call();
    target_.SetFaultPlan(nullptr);
    target_.SetImpatient(false);
    if (is_hit) {
      EXPECT_EQ(status.code(), StatusCode::kDeadlineExceeded) << "step " << step << ": " << status;
    }
    return is_hit;
  }

  /// Runs `call` once for each of its calls to the target, with the deadline passing in that step.
  void EndsInEachStep(const std::function<void()>& prepare,
                      const std::function<absl::Status()>& call) {
    uint64_t step = 0;
    while (RunWithHang(prepare, step, call)) ++step;
    EXPECT_GT(step, 0u) << "nothing was asked of the target";
  }
};

TEST_F(DeadlineTest, Defect60_EachStepOfEachCallReturnsDeadlineExceeded) {
  const auto nothing = [] {};
  const auto device = [this] { ASSERT_TRUE(Create(0).ok()); };
  const auto with_volume = [this] { ASSERT_TRUE(Create(0, 1).ok()); };
  {
    SCOPED_TRACE("CreateDevice");
    EndsInEachStep(nothing, [this] { return Create(0); });
  }
  {
    SCOPED_TRACE("CreateDevice with a volume");
    EndsInEachStep(nothing, [this] { return Create(0, 1); });
  }
  {
    SCOPED_TRACE("AttachVolume");
    EndsInEachStep(device, [this] { return Attach(Handle(0), 1); });
  }
  {
    SCOPED_TRACE("SetQos");
    EndsInEachStep(with_volume, [this] { return Limit(1); });
  }
  {
    SCOPED_TRACE("DetachVolume");
    EndsInEachStep(with_volume, [this] { return Detach(Handle(0), 1); });
  }
  {
    SCOPED_TRACE("DeleteDevice");
    EndsInEachStep(with_volume, [this] { return Delete(Handle(0)); });
  }
}

// The result cannot be NOT_FOUND, because the bdev might have appeared after the deadline.
TEST_F(DeadlineTest, Defect60_AWaitForABdevThatIsCutShortReturnsDeadlineExceeded) {
  options_.volumes.local_wait = std::chrono::seconds(60);
  Crash();
  Open();
  target_.SetWaits(true);
  ASSERT_TRUE(Create(0).ok());
  context_ = base::Context::WithTimeout(milliseconds(100));
  EXPECT_EQ(Attach(Handle(0), 77).code(), StatusCode::kDeadlineExceeded);
  EXPECT_EQ(Create(1, 77).code(), StatusCode::kDeadlineExceeded);
}

// The full wait for the bdev has elapsed, as without a deadline, so NOT_FOUND is definite even if
// the deadline is near.
TEST_F(DeadlineTest, Defect60_NotFoundJustBeforeTheDeadlineIsKept) {
  ASSERT_TRUE(Create(0).ok());
  const base::TimePoint begin = std::chrono::steady_clock::now();
  context_ = base::Context::WithTimeout(std::chrono::seconds(2));
  target_.SetFaultPlan([&](uint64_t, const jsonrpc::Request&) {
    context_.SleepUntil(begin + milliseconds(1600)).IgnoreError();
    return spdk::Fault::kNone;
  });
  const absl::Status status = Attach(Handle(0), 77);
  target_.SetFaultPlan(nullptr);
  if (context_.done()) GTEST_SKIP() << "the machine is too slow";
  EXPECT_EQ(status.code(), StatusCode::kNotFound) << status;
}

}  // namespace
}  // namespace sma::core
