// SPDX-License-Identifier: Apache-2.0

#include "agent/volume/bdev_watch.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "agent/spdk/notify.h"
#include "agent/spdk/testing/fake_target.h"
#include "agent/volume/testing/scripted_target.h"

namespace sma::volume {
namespace {

using base::Uuid;
using jsonrpc::Json;
using spdk::FakeRemote;
using spdk::Fault;

constexpr char kNqn[] = "nqn.2016-06.io.spdk:remote0";
constexpr char kPort[] = "4420";

std::string UuidText(int number) {
  std::string digits = std::to_string(number);
  return std::string(8 - digits.size(), '0') + digits + "-1111-4222-8333-444444444444";
}

Uuid Id(int number) { return *Uuid::Parse(UuidText(number)); }

class BdevWatchTest : public testing::Test {
 protected:
  void SetUp() override {
    SetRemote({1, 2, 3});
    Json params{{"name", "r"},    {"trtype", "tcp"},       {"adrfam", "ipv4"},
                {"subnqn", kNqn}, {"traddr", "127.0.0.1"}, {"trsvcid", kPort}};
    ASSERT_TRUE(target_.Operator("bdev_nvme_attach_controller", params).ok());
  }

  void SetRemote(const std::vector<int>& volumes) {
    FakeRemote remote{.ports = {kPort}, .subsystems = {{kNqn, {}}}};
    for (int volume : volumes) remote.subsystems[kNqn].push_back(UuidText(volume));
    target_.SetRemote("a", remote);
  }

  static record::Volume Row(int number, absl::StatusCode error = absl::StatusCode::kOk) {
    record::Volume row;
    row.id = Id(number);
    row.bdev_name = UuidText(number);
    row.state = record::VolumeState::kAttached;
    row.last_error.code = error;
    return row;
  }
  void Watch(const std::vector<int>& numbers) {
    std::vector<record::Volume> rows;
    for (int number : numbers) rows.push_back(Row(number));
    watch_.SetVolumes(rows);
  }

  std::set<Uuid> Poll() {
    auto changed = watch_.Poll(context_);
    EXPECT_TRUE(changed.ok()) << changed.status();
    return changed.value_or(std::set<Uuid>());
  }

  base::Context context_ = base::Context::Background();
  spdk::FakeTarget target_;
  BdevWatch watch_{target_};
};

TEST_F(BdevWatchTest, LossAndReturnAreReportedOnce) {
  Watch({1, 2});
  EXPECT_TRUE(Poll().empty());
  SetRemote({2, 3});
  EXPECT_EQ(Poll(), std::set<Uuid>{Id(1)});
  EXPECT_TRUE(Poll().empty());
  SetRemote({1, 2, 3});
  EXPECT_EQ(Poll(), std::set<Uuid>{Id(1)});
  EXPECT_TRUE(Poll().empty());
}

TEST_F(BdevWatchTest, OneRoundTripIfNothingHappens) {
  Watch({1, 2, 3});
  Poll();
  target_.ResetCounts();
  Poll();
  Watch({1, 2, 3});
  Poll();
  EXPECT_EQ(target_.methods(), std::vector<std::string>(2, "notify_get_notifications"));
  // Bdevs of other volumes are not queried.
  target_.AddBdev(UuidText(50));
  ASSERT_TRUE(target_.Operator("bdev_null_delete", {{"name", UuidText(50)}}).ok());
  target_.ResetCounts();
  Poll();
  EXPECT_EQ(target_.calls(), 1u);
}

TEST_F(BdevWatchTest, AReplacedBdevIsReported) {
  Watch({1});
  Poll();
  SetRemote({2});
  SetRemote({1, 2});
  EXPECT_EQ(Poll(), std::set<Uuid>{Id(1)});
  EXPECT_TRUE(Poll().empty());
}

TEST_F(BdevWatchTest, TheRecordMayBeOutdatedAtFirst) {
  watch_.SetVolumes(
      {Row(1), Row(2, absl::StatusCode::kNotFound), Row(8), Row(9, absl::StatusCode::kNotFound)});
  EXPECT_EQ(Poll(), (std::set<Uuid>{Id(2), Id(8)}));
  EXPECT_TRUE(Poll().empty());
}

TEST_F(BdevWatchTest, OnlyAttachedVolumesAreWatched) {
  Watch({1, 2});
  Poll();
  record::Volume going = Row(2);
  going.state = record::VolumeState::kDetaching;
  watch_.SetVolumes({going});
  SetRemote({3});
  EXPECT_TRUE(Poll().empty());
}

// For an encrypted volume, the device exports the layer instead of the volume's own bdev.
TEST_F(BdevWatchTest, TheExportedBdevIsWatchedToo) {
  record::Volume row = Row(1);
  row.bdev_name = "crypt";
  target_.Operator("bdev_null_create", {{"name", "crypt"}, {"num_blocks", 8}, {"block_size", 512}})
      .value();
  watch_.SetVolumes({row});
  EXPECT_TRUE(Poll().empty());
  ASSERT_TRUE(target_.Operator("bdev_null_delete", {{"name", "crypt"}}).ok());
  EXPECT_EQ(Poll(), std::set<Uuid>{Id(1)});
}

// For example, after a restart of the agent.
TEST_F(BdevWatchTest, ALayerThatIsMissingAtTheFirstPollIsReported) {
  record::Volume row = Row(1);
  row.bdev_name = "crypt";
  row.params.mutable_crypto();
  watch_.SetVolumes({row});
  EXPECT_EQ(Poll(), std::set<Uuid>{Id(1)});
  EXPECT_TRUE(Poll().empty());
  target_.Operator("bdev_null_create", {{"name", "crypt"}, {"num_blocks", 8}, {"block_size", 512}})
      .value();
  EXPECT_EQ(Poll(), std::set<Uuid>{Id(1)});
}

TEST_F(BdevWatchTest, LostEventsCauseAQueryOfAllBdevs) {
  Watch({1, 2, 3});
  Poll();
  SetRemote({2, 3});
  for (int i = 0; i < 1024; ++i) target_.AddBdev(UuidText(1000 + i));
  EXPECT_EQ(Poll(), (std::set<Uuid>{Id(1), Id(2), Id(3)}));
  EXPECT_TRUE(Poll().empty());
}

TEST_F(BdevWatchTest, ARestartedTargetNumbersItsEventsFromTheStart) {
  Watch({1});
  Poll();
  target_.Restart();
  EXPECT_EQ(Poll(), std::set<Uuid>{Id(1)});
  target_.AddBdev(UuidText(1));
  EXPECT_EQ(Poll(), std::set<Uuid>{Id(1)});
}

TEST_F(BdevWatchTest, NothingIsLostAfterAnError) {
  Watch({1, 2});
  Poll();
  SetRemote({2});
  for (const char* method : {"notify_get_notifications", "bdev_get_bdevs"}) {
    target_.SetFaultPlan([method](uint64_t, const jsonrpc::Request& request) {
      return request.method == method ? Fault::kRefuse : Fault::kNone;
    });
    EXPECT_FALSE(watch_.Poll(context_).ok()) << method;
  }
  target_.SetFaultPlan(nullptr);
  EXPECT_EQ(Poll(), std::set<Uuid>{Id(1)});
}

TEST_F(BdevWatchTest, ManyVolumesAreQueriedInBatches) {
  std::vector<int> numbers;
  for (int i = 1; i <= 150; ++i) numbers.push_back(i);
  SetRemote(numbers);
  Watch(numbers);
  target_.ResetCounts();
  EXPECT_TRUE(Poll().empty());
  EXPECT_EQ(target_.round_trips(), 4u);
  SetRemote({});
  EXPECT_EQ(Poll().size(), numbers.size());
}

TEST(BdevWatchOfOthersTest, ATargetWithoutNotificationsIsNotQueried) {
  ScriptedTarget target;
  target.answers["notify_get_notifications"] = ScriptedTarget::Refusal(jsonrpc::kMethodNotFound);
  BdevWatch watch(target);
  record::Volume row;
  row.state = record::VolumeState::kAttached;
  watch.SetVolumes({row});
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(watch.Poll(base::Context::Background())->empty());
  EXPECT_EQ(target.called.size(), 1u);
  target.connection = 2;
  EXPECT_TRUE(watch.Poll(base::Context::Background())->empty());
  EXPECT_EQ(target.called.size(), 2u);
}

TEST(BdevWatchOfOthersTest, MalformedEventsAreAnError) {
  for (
      const char* text : {
          "null",
          "{}",
          "[1]",
          "[{}]",
          R"([{"type":"bdev_register","ctx":"a"}])",
          R"([{"type":"bdev_register","ctx":"a","id":-1}])",
          R"([{"type":"bdev_register","ctx":"a","id":18446744073709551615}])",
          R"([{"type":"bdev_register","id":1}])",
          R"([{"type":1,"ctx":"a","id":1}])",
          R"([{"type":"bdev_register","ctx":"a","id":1},{"type":"bdev_register","ctx":"a","id":1}])",
      }) {
    EXPECT_EQ(spdk::ParseNotifications(Json::parse(text)).status().code(),
              absl::StatusCode::kInternal)
        << text;
  }
  auto events = spdk::ParseNotifications(
      Json::parse(R"([{"type":"fsdev_register","ctx":"f","id":3,"more":1}])"));
  ASSERT_TRUE(events.ok());
  EXPECT_EQ(events->front().kind, spdk::BdevEvent::Kind::kOther);
}

}  // namespace
}  // namespace sma::volume
