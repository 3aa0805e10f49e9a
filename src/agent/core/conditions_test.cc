// SPDX-License-Identifier: Apache-2.0

// Conditions of devices and volumes: whether the target answers, how many paths to storage nodes
// are up, what is missing and why, and since when.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/core/testing/remote_fixture.h"

namespace sma::core {
namespace {

using admin::v1::Condition;
using spdk::FakeRemote;
using std::chrono::milliseconds;

class ConditionsTest : public RemoteFixture {
 protected:
  void SetUp() override {
    RemoteFixture::SetUp();
    SetNode("a", true);
    SetNode("b", true);
    options_.watch_period = milliseconds(5);
    Crash();
    Open();
  }

  /// Adds or changes a storage node with a path to volume 1 on a separate port.
  void SetNode(const std::string& name, bool up) {
    target_.SetRemote(name, {.ports = {name == "a" ? "4430" : "4432"},
                             .subsystems = {{kRemoteNqn, {VolumeUuid(1)}}},
                             .up = up});
  }

  admin::v1::Volume Volume(int number) {
    admin::v1::GetVolumeRequest request;
    request.set_volume_id(Id(number));
    return core_->admin().GetVolume(context_, request).value_or(admin::v1::Volume());
  }
  admin::v1::Device Device(int number) {
    admin::v1::GetDeviceRequest request;
    request.set_handle(Handle(number));
    return core_->admin().GetDevice(context_, request).value_or(admin::v1::Device());
  }
  template <typename Object>
  static Condition Find(const Object& object, const std::string& type) {
    for (const Condition& condition : object.conditions()) {
      if (condition.type() == type) return condition;
    }
    return {};
  }
  /// Waits until the PathsUp condition of volume 1 has the message `message`, and returns the
  /// condition.
  Condition WaitForPaths(const std::string& message) {
    WaitFor([&] { return Find(Volume(1), "PathsUp").message() == message; });
    return Find(Volume(1), "PathsUp");
  }
  uint32_t Unmet(const std::string& object, const std::string& condition) {
    for (const ConditionCount& count : core_->CountConditions().conditions) {
      if (count.object == object && count.condition == condition) return count.count;
    }
    ADD_FAILURE() << "no such condition: " << object << " " << condition;
    return 0;
  }
};

bool IsLater(const Condition& a, const Condition& b) {
  return std::pair(a.since().seconds(), a.since().nanos()) >
         std::pair(b.since().seconds(), b.since().nanos());
}

TEST_F(ConditionsTest, PathsAreReportedWithTheTimeOfTheLastChange) {
  ASSERT_TRUE(Send(Direct(1, {"4430", "4432"})).ok());
  const Condition both = WaitForPaths("2 of 2");
  EXPECT_EQ(both.status(), Condition::STATUS_TRUE);
  EXPECT_EQ(both.reason(), "Connected");

  SetNode("b", false);
  const Condition one = WaitForPaths("1 of 2");
  EXPECT_EQ(one.status(), Condition::STATUS_TRUE) << "I/O goes on";
  EXPECT_TRUE(IsLater(one, both));
  EXPECT_EQ(Volume(1).state(), admin::v1::STATE_READY);
  EXPECT_EQ(Unmet("volume", "PathsUp"), 0u);
  EXPECT_EQ(core_->CountConditions().paths, (volume::PathCount{1, 2}));

  SetNode("a", false);
  const Condition none = WaitForPaths("0 of 2");
  EXPECT_EQ(none.status(), Condition::STATUS_FALSE);
  EXPECT_EQ(none.reason(), "AllDown");
  EXPECT_TRUE(IsLater(none, one)) << "gone since then";
  const admin::v1::Volume gone = Volume(1);
  EXPECT_EQ(gone.state(), admin::v1::STATE_DEGRADED);
  EXPECT_EQ(Find(gone, "Attached").status(), Condition::STATUS_FALSE);
  const admin::v1::Device device = Device(0);
  EXPECT_EQ(device.state(), admin::v1::STATE_DEGRADED);
  EXPECT_EQ(Find(device, "VolumesReachable").status(), Condition::STATUS_FALSE);
  EXPECT_EQ(Find(device, "VolumesReachable").reason(), "NoPathUp");
  EXPECT_EQ(Unmet("volume", "PathsUp"), 1u);
  EXPECT_EQ(Unmet("device", "VolumesReachable"), 1u);
  EXPECT_EQ(core_->CountConditions().degraded, 2u);
  EXPECT_EQ(core_->admin().GetStatus(context_, {})->degraded_count(), 2u);

  // A further comparison must not change the condition.
  target_.ResetCounts();
  WaitFor([&] { return CountCalls("bdev_nvme_get_controllers") >= 2; });
  EXPECT_FALSE(IsLater(Find(Volume(1), "PathsUp"), none));

  SetNode("b", true);
  const Condition back = WaitForPaths("1 of 2");
  EXPECT_EQ(back.status(), Condition::STATUS_TRUE);
  EXPECT_TRUE(IsLater(back, none));
  EXPECT_EQ(Volume(1).state(), admin::v1::STATE_READY);
  EXPECT_EQ(Device(0).state(), admin::v1::STATE_READY);
  EXPECT_EQ(core_->CountConditions().degraded, 0u);
}

TEST_F(ConditionsTest, WatchersAreNotifiedOfPaths) {
  ASSERT_TRUE(Send(Direct(1, {"4430", "4432"})).ok());
  WaitForPaths("2 of 2");
  base::Mutex mutex;
  std::vector<std::string> heard;
  admin::v1::WatchRequest request;
  auto watch = core_->admin().Watch(
      request, [&](const std::shared_ptr<const admin::v1::WatchResponse>& change) {
        base::MutexLock lock(mutex);
        if (change->has_volume()) heard.push_back(Find(change->volume(), "PathsUp").message());
      });
  ASSERT_TRUE(watch.ok());
  SetNode("b", false);
  WaitForPaths("1 of 2");
  SetNode("a", false);
  WaitForPaths("0 of 2");
  WaitFor([&] {
    base::MutexLock lock(mutex);
    return heard.size() >= 2 && heard.back() == "0 of 2";
  });
  EXPECT_THAT(heard, testing::Contains("1 of 2"));
}

TEST_F(ConditionsTest, WhileTheTargetDoesNotAnswerNothingIsReady) {
  target_.AddBdev(VolumeUuid(8));
  ASSERT_TRUE(Attach(Handle(0), 8).ok());
  const Condition before = Find(Volume(8), "TargetAnswers");
  EXPECT_EQ(before.status(), Condition::STATUS_TRUE);
  ASSERT_EQ(Device(0).state(), admin::v1::STATE_READY);
  base::Mutex mutex;
  std::vector<admin::v1::State> heard;
  admin::v1::WatchRequest request;
  request.set_device_handle(Handle(0));
  auto watch = core_->admin().Watch(
      request, [&](const std::shared_ptr<const admin::v1::WatchResponse>& change) {
        base::MutexLock lock(mutex);
        if (change->has_device()) heard.push_back(change->device().state());
      });
  ASSERT_TRUE(watch.ok());

  core_->OnDisconnect(1, absl::UnavailableError("connection refused"));
  EXPECT_EQ(Device(0).state(), admin::v1::STATE_UNKNOWN);
  EXPECT_EQ(Find(Device(0), "OnTarget").status(), Condition::STATUS_UNKNOWN);
  const admin::v1::Volume volume = Volume(8);
  EXPECT_EQ(volume.state(), admin::v1::STATE_UNKNOWN);
  EXPECT_EQ(Find(volume, "Attached").status(), Condition::STATUS_UNKNOWN);
  const Condition silent = Find(volume, "TargetAnswers");
  EXPECT_EQ(silent.status(), Condition::STATUS_FALSE);
  EXPECT_EQ(silent.message(), "connection refused");
  EXPECT_TRUE(IsLater(silent, before));
  EXPECT_EQ(volume.state_since().seconds(), silent.since().seconds());
  EXPECT_EQ(Unmet("device", "TargetAnswers"), 2u);
  EXPECT_EQ(Unmet("volume", "TargetAnswers"), 1u);
  EXPECT_EQ(core_->CountConditions().degraded, 3u);

  target_.Restart();
  target_.AddBdev(VolumeUuid(8));
  WaitFor([&] { return Device(0).state() == admin::v1::STATE_READY; });
  WaitFor([&] { return Volume(8).state() == admin::v1::STATE_READY; });
  EXPECT_TRUE(IsLater(Find(Volume(8), "Attached"), silent)) << "ready since it was restored";
  EXPECT_TRUE(IsLater(Find(Volume(8), "TargetAnswers"), silent));
  EXPECT_EQ(Unmet("device", "TargetAnswers"), 0u);
  WaitFor([&] {
    base::MutexLock lock(mutex);
    return heard.size() >= 2 && heard.back() == admin::v1::STATE_READY;
  });
  base::MutexLock lock(mutex);
  EXPECT_THAT(heard, testing::Contains(admin::v1::STATE_UNKNOWN));
}

// After a restart of the target, no object is reported as ready before it has been compared, and
// the first reason that is reported names the storage node.
TEST_F(ConditionsTest, AReasonIsTrueFromTheRestartOfTheTargetOn) {
  options_.drift_period = milliseconds(5);
  Crash();
  Open();
  for (const auto& [request, port] :
       {std::pair(Direct(1, {"4430"}), "4430"), std::pair(Discovered(1, {"4430"}), "4430")}) {
    SetNode("a", true);
    ASSERT_TRUE(Send(request).ok());
    WaitForPaths("1 of 1");
    SetNode("a", false);
    WaitForPaths("0 of 1");
    target_.Restart();
    std::string first;
    WaitFor([&] {
      EXPECT_NE(Device(0).state(), admin::v1::STATE_READY);
      EXPECT_NE(Volume(1).state(), admin::v1::STATE_READY);
      first = Volume(1).last_error().message();
      return !first.empty();
    });
    EXPECT_THAT(first, testing::HasSubstr(std::string("127.0.0.1 port ") + port));
    EXPECT_THAT(first, testing::Not(testing::HasSubstr("no bdev")));
    EXPECT_EQ(Find(Device(0), "VolumesReachable").status(), Condition::STATUS_FALSE);
    EXPECT_THAT(Find(Device(0), "VolumesReachable").message(), testing::HasSubstr(VolumeUuid(1)));
    // Neither further comparisons nor a different message for the same problem change the time.
    const Condition begun = Find(Volume(1), "Attached");
    target_.ResetCounts();
    WaitFor([&] { return CountCalls("nvmf_get_subsystems") >= 5; });
    const Condition later = Find(Volume(1), "Attached");
    EXPECT_EQ(later.status(), Condition::STATUS_FALSE);
    EXPECT_FALSE(IsLater(later, begun));
    SetNode("a", true);
    WaitFor([&] { return Device(0).state() == admin::v1::STATE_READY; });
    EXPECT_TRUE(IsLater(Find(Volume(1), "Attached"), later)) << "ready since it was restored";
    ASSERT_TRUE(Detach(Handle(0), 1).ok());
  }
}

// The times survive if they are in the record.
TEST_F(ConditionsTest, TimesSurviveARestartOfTheAgent) {
  target_.AddBdev(VolumeUuid(8));
  ASSERT_TRUE(Attach(Handle(0), 8).ok());
  const Condition attached = Find(Volume(8), "Attached");
  Crash();
  Open();
  EXPECT_FALSE(IsLater(Find(Volume(8), "Attached"), attached));
  Operator("bdev_null_delete", {{"name", "null-" + VolumeUuid(8)}});
  WaitFor([&] { return Volume(8).state() == admin::v1::STATE_DEGRADED; });
  const Condition lost = Find(Volume(8), "Attached");
  EXPECT_TRUE(IsLater(lost, attached));
  Crash();
  Open();
  EXPECT_FALSE(IsLater(Find(Volume(8), "Attached"), lost));
  EXPECT_EQ(Find(Device(0), "VolumesReachable").since().nanos(), lost.since().nanos());
}

// Only a storage node can say that a volume no longer exists.
TEST_F(ConditionsTest, AVolumeOfANodeThatDoesNotAnswerIsNotDetached) {
  options_.drift_period = milliseconds(5);
  options_.volume_cleanup_period = milliseconds(20);
  options_.detach_gone_volumes = true;
  Crash();
  Open();
  for (const AttachVolumeRequest& request : {Direct(1, {"4430"}), Discovered(1, {"4430"})}) {
    ASSERT_TRUE(Send(request).ok());
    SetNode("a", false);
    target_.Restart();
    WaitFor([&] { return Volume(1).state() == admin::v1::STATE_DEGRADED; });
    const auto until = std::chrono::steady_clock::now() + 5 * options_.volume_cleanup_period;
    target_.ResetCounts();
    WaitFor([&] {
      return CountCalls("nvmf_get_subsystems") >= 20 && std::chrono::steady_clock::now() > until;
    });
    EXPECT_EQ(Volume(1).state(), admin::v1::STATE_DEGRADED);
    SetNode("a", true);
    WaitFor([&] { return Namespaces(0).size() == 1; });
    ASSERT_TRUE(Detach(Handle(0), 1).ok());
  }
}

TEST_F(ConditionsTest, ALocalVolumeHasNoPaths) {
  target_.AddBdev(VolumeUuid(8));
  ASSERT_TRUE(Attach(Handle(0), 8).ok());
  EXPECT_EQ(Find(Volume(8), "PathsUp").type(), "");
  EXPECT_EQ(Find(Volume(8), "Attached").status(), Condition::STATUS_TRUE);
  EXPECT_EQ(core_->CountConditions().paths, volume::PathCount());
}

}  // namespace
}  // namespace sma::core
