// SPDX-License-Identifier: Apache-2.0

// Tests how many calls and how much time it takes to compare many devices with the target.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <map>

#include "agent/core/testing/agent_fixture.h"

namespace {
std::atomic<int> trim_count = 0;
}  // namespace

// Replaces the C library's function, and counts the calls.
extern "C" int malloc_trim(size_t /*pad*/) noexcept {
  ++trim_count;
  return 0;
}

namespace sma::core {
namespace {

using std::chrono::milliseconds;

class ComparisonTest : public AgentFixture {
 protected:
  static constexpr int kDevices = 40;

  void SetUp() override {
    AgentFixture::SetUp();
    for (int i = 1; i <= kDevices; ++i) {
      target_.AddBdev(VolumeUuid(i));
      ASSERT_TRUE(Create(i, i).ok());
    }
  }
  void OpenWithPeriod() {
    Crash();
    options_.drift_period = milliseconds(20);
    Open();
  }
  absl::Status SetIops(int volume, uint64_t rw_iops) {
    SetQosRequest request;
    request.set_device_handle(Handle(volume));
    request.set_volume_id(Id(volume));
    request.mutable_maximum()->set_rw_iops(rw_iops);
    return core_->agent().SetQos(context_, request).status();
  }
  uint64_t IopsOnTarget(int volume) {
    auto bdevs = target_.Operator("bdev_get_bdevs", {{"name", VolumeUuid(volume)}});
    return (*bdevs)[0]["assigned_rate_limits"]["rw_ios_per_sec"];
  }
  int CountCalls(const std::string& method) {
    const std::vector<std::string> methods = target_.methods();
    return static_cast<int>(std::count(methods.begin(), methods.end(), method));
  }
  /// Waits for `count` comparisons of all devices.
  void WaitForPasses(int count) {
    // Each comparison begins by listing the subsystems.
    const int wanted = CountCalls("nvmf_get_subsystems") + count;
    WaitFor([&] { return CountCalls("nvmf_get_subsystems") >= wanted; });
  }
  /// Returns true if no comparison of all devices is under way, and all of them were compared.
  bool IsPassDone() {
    auto status = core_->admin().GetStatus(context_, {});
    EXPECT_TRUE(status.ok()) << status.status();
    const auto& restore = status->restore();
    return !restore.active() && restore.total() >= kDevices && restore.done() == restore.total();
  }
  size_t Degraded() { return core_->CountConditions().degraded; }
};

TEST_F(ComparisonTest, NothingIsQueriedIfNothingHasChanged) {
  OpenWithPeriod();
  WaitForPasses(2);
  target_.ResetCounts();
  WaitForPasses(5);
  EXPECT_LE(target_.round_trips(), 7u) << "one listing each time";
}

TEST_F(ComparisonTest, AMissingVolumeCausesNoComparisonOfOtherDevices) {
  OpenWithPeriod();
  Operator("bdev_null_delete", {{"name", "null-" + VolumeUuid(7)}});
  WaitFor([&] { return Degraded() > 0; });
  std::map<std::string, int> asked;
  base::Mutex mutex;
  target_.SetFaultPlan([&](uint64_t, const jsonrpc::Request& request) {
    base::MutexLock lock(mutex);
    for (const char* name : {"nqn", "name"}) {
      if (request.params.is_object() && request.params.contains(name)) {
        ++asked[request.params[name].get<std::string>()];
      }
    }
    return spdk::Fault::kNone;
  });
  WaitForPasses(5);
  target_.SetFaultPlan(nullptr);
  asked.erase(Nqn(7));
  asked.erase(VolumeUuid(7));
  EXPECT_THAT(asked, testing::IsEmpty());
}

// The damage is the same each time, so that the damaged target looks identical in each comparison.
TEST_F(ComparisonTest, TheSameDamageIsRepairedEachTime) {
  OpenWithPeriod();
  for (int i = 0; i < 5; ++i) {
    Operator("nvmf_subsystem_remove_ns", {{"nqn", Nqn(3)}, {"nsid", 1}});
    WaitFor([&] { return Namespaces(3) == std::vector<std::string>{VolumeUuid(3)}; });
    Operator("nvmf_delete_subsystem", {{"nqn", Nqn(4)}});
    WaitFor([&] { return Namespaces(4) == std::vector<std::string>{VolumeUuid(4)}; });
  }
}

TEST_F(ComparisonTest, LimitsOfAllVolumesAreReadInFewRoundTrips) {
  for (int i = 1; i <= kDevices; ++i) ASSERT_TRUE(SetIops(i, 5).ok());
  Crash();
  Operator("bdev_set_qos_limit", {{"name", VolumeUuid(9)}, {"rw_ios_per_sec", 1000}});
  target_.ResetCounts();
  OpenCore();
  WaitFor([&] { return IopsOnTarget(9) == 5000; });
  // A starting agent makes calls for the transport, the listing, the version and the limits; one
  // more call restores the volume.
  EXPECT_EQ(CountCalls("bdev_set_qos_limit"), 1) << "those of others were as they should be";
  EXPECT_LE(target_.round_trips(), 12u);
}

// Each device takes four: the subsystem; hosts and namespace; the listener, once the namespace is
// there; the limits. Limits that have just been set are not read.
TEST_F(ComparisonTest, ARestartedTargetTakesFourRoundTripsForADevice) {
  for (int i = 1; i <= kDevices; ++i) ASSERT_TRUE(SetIops(i, 5).ok());
  Crash();
  target_.Restart();
  for (int i = 1; i <= kDevices; ++i) target_.AddBdev(VolumeUuid(i));
  target_.ResetCounts();
  OpenCore();
  WaitUntilServing();
  WaitFor([&] { return IsPassDone(); });
  EXPECT_EQ(CountCalls("nvmf_get_subsystems"), 1 + kDevices) << "the listing; with the listeners";
  EXPECT_EQ(CountCalls("bdev_get_bdevs"), kDevices) << "with the namespaces";
  EXPECT_EQ(CountCalls("bdev_set_qos_limit"), kDevices);
  EXPECT_LE(target_.round_trips(), 4u * kDevices + 3) << "and transport, listing, version";
  for (int i = 1; i <= kDevices; ++i) {
    EXPECT_EQ(Namespaces(i), std::vector<std::string>{VolumeUuid(i)});
    EXPECT_EQ(Subsystem(i)["listen_addresses"].size(), 1u);
    EXPECT_EQ(IopsOnTarget(i), 5000u);
  }
  EXPECT_EQ(Degraded(), 0u);
}

// The memory is also returned by passes in which no device has to be compared.
TEST_F(ComparisonTest, TheMemoryOfALargeListingIsReturned) {
  constexpr int kMany = 520;
  for (int i = kDevices + 1; i <= kMany; ++i) {
    target_.AddBdev(VolumeUuid(i));
    ASSERT_TRUE(Create(i, i).ok());
  }
  OpenWithPeriod();
  WaitFor([&] { return IsPassDone(); });
  const int before = trim_count;
  WaitFor([&] { return trim_count >= before + 3; });
}

TEST_F(ComparisonTest, LimitsThatSomebodyElseChangesAreRestored) {
  ASSERT_TRUE(SetIops(11, 5).ok());
  OpenWithPeriod();
  for (int i = 0; i < 3; ++i) {
    Operator("bdev_set_qos_limit", {{"name", VolumeUuid(11)}, {"rw_ios_per_sec", 0}});
    WaitFor([&] { return IopsOnTarget(11) == 5000; });
  }
}

}  // namespace
}  // namespace sma::core
