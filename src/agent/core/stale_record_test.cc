// SPDX-License-Identifier: Apache-2.0

// Tests that the record is updated soon after a call finds that the target differs, long before the
// next comparison.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>

#include "agent/core/testing/agent_fixture.h"

namespace sma::core {
namespace {

using testing::HasSubstr;

class StaleRecordTest : public AgentFixture {
 protected:
  void SetUp() override {
    // Differences are reported and stay visible. There are no periodic comparisons.
    options_.repair_drift = false;
    options_.min_retry_pause = std::chrono::milliseconds(1);
    AgentFixture::SetUp();
    target_.AddBdev(VolumeUuid(1));
    target_.AddBdev(VolumeUuid(2));
    ASSERT_TRUE(Create(0).ok());
    ASSERT_TRUE(Attach(Handle(0), 1).ok());
    ASSERT_EQ(DeviceError(), "");
  }
  std::string DeviceError() { return core_->record().FindDevice(Handle(0))->last_error.message; }
  std::string VolumeError(int volume) {
    auto row = core_->record().FindVolume(*base::Uuid::Parse(VolumeUuid(volume)));
    return row ? row->last_error.message : "";
  }
  void ReplaceSubsystem() {
    Operator("nvmf_delete_subsystem", {{"nqn", Nqn(0)}});
    Operator("nvmf_create_subsystem", {{"nqn", Nqn(0)}, {"serial_number", "another"}});
  }
};

TEST_F(StaleRecordTest, DetachFindsNoSubsystem) {
  Operator("nvmf_delete_subsystem", {{"nqn", Nqn(0)}});
  EXPECT_TRUE(Detach(Handle(0), 1).ok());
  WaitFor([&] { return DeviceError() != ""; });
}

TEST_F(StaleRecordTest, DetachFindsAnothersSubsystem) {
  ReplaceSubsystem();
  EXPECT_TRUE(Detach(Handle(0), 1).ok());
  WaitFor([&] { return DeviceError() != ""; });
  EXPECT_THAT(DeviceError(), HasSubstr("not the one"));
}

TEST_F(StaleRecordTest, AttachFindsAnothersSubsystem) {
  ReplaceSubsystem();
  EXPECT_TRUE(absl::IsAlreadyExists(Attach(Handle(0), 2)));
  WaitFor([&] { return DeviceError() != ""; });
}

TEST_F(StaleRecordTest, RepeatedAttachFindsAnothersSubsystem) {
  ReplaceSubsystem();
  EXPECT_FALSE(Attach(Handle(0), 1).ok());
  WaitFor([&] { return DeviceError() != ""; });
}

TEST_F(StaleRecordTest, RepeatedAttachFindsAnotherBdev) {
  Operator("nvmf_subsystem_remove_ns", {{"nqn", Nqn(0)}, {"nsid", 1}});
  Operator(
      "nvmf_subsystem_add_ns",
      {{"nqn", Nqn(0)}, {"namespace", {{"bdev_name", VolumeUuid(2)}, {"uuid", VolumeUuid(1)}}}});
  EXPECT_FALSE(Attach(Handle(0), 1).ok());
  WaitFor([&] { return VolumeError(1) != ""; });
}

TEST_F(StaleRecordTest, SetQosFindsNoBdev) {
  Operator("bdev_null_delete", {{"name", "null-" + VolumeUuid(1)}});
  EXPECT_FALSE(Limit(1).ok());
  WaitFor([&] { return VolumeError(1) != ""; });
}

// While a comparison finds the volume missing, another call records that the volume depends on its
// connection.
TEST_F(StaleRecordTest, ConnectionsRecordedDuringAComparisonAreKept) {
  auto& record = const_cast<record::Record&>(core_->record());
  const base::Uuid id = *base::Uuid::Parse(VolumeUuid(1));
  std::atomic<int> added{0};
  Operator("bdev_null_delete", {{"name", "null-" + VolumeUuid(1)}});
  target_.SetFaultPlan([&](uint64_t, const jsonrpc::Request&) {
    auto add_connection = [&] {
      record::Change change;
      change.put_volumes.push_back(*record.FindVolume(id));
      change.put_volumes.back().connection += fmt::format("controller c{}\n", added++);
      return change;
    };
    EXPECT_TRUE(record.Update(add_connection, record::Durability::kProcess).ok());
    return spdk::Fault::kNone;
  });
  EXPECT_FALSE(Limit(1).ok());
  WaitFor([&] { return VolumeError(1) != ""; });
  target_.SetFaultPlan(nullptr);
  const std::string connection = record.FindVolume(id)->connection;
  EXPECT_EQ(std::count(connection.begin(), connection.end(), '\n'), added);
  EXPECT_GT(added, 1);
}

}  // namespace
}  // namespace sma::core
