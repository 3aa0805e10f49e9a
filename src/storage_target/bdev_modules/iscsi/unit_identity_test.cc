// SPDX-License-Identifier: Apache-2.0

// Tests targets that put another logical unit in the place of a bdev's unit while sessions are up.

#include <gtest/gtest.h>

#include <chrono>
#include <optional>
#include <set>
#include <string>

#include "storage_target/bdev_modules/iscsi/iscsi_bdev.h"
#include "storage_target/bdev_modules/iscsi/testing/iscsi_fixture.h"

namespace sma::storage_target::bdev_iscsi {
namespace {

using bdev::IoStatus;
using bdev::IoType;
using bdev::TestIo;
using namespace std::chrono_literals;

constexpr uint8_t kOther = 8;

class UnitIdentityTest : public IscsiFixture {
 protected:
  void SetUp() override {
    Open();
    // The sessions of the watch and of the channel are ready.
    RunUntil([&] { return portal_.identity_isids.size() >= 3; });
  }
  std::optional<IoStatus> Write(bdev::Channel& channel) {
    TestIo write(IoType::kWrite, 0, 1, 512, std::byte{1});
    return RunIo(channel, write);
  }
  std::optional<IoStatus> Write() { return Write(*channel_); }
  bool is_untouched() const { return portal_.content == std::string(portal_.content.size(), '\0'); }
};

class UnitAttentionTest : public UnitIdentityTest, public testing::WithParamInterface<uint16_t> {};

TEST_P(UnitAttentionTest, AWriteIsNotSentAgainToAnotherUnit) {
  portal_.unit_attention = GetParam();
  portal_.next_unit = kOther;
  EXPECT_EQ(Write(), IoStatus::kGone);
  EXPECT_EQ(Write(), IoStatus::kGone);
  EXPECT_TRUE(is_untouched());
}

TEST_P(UnitAttentionTest, AWriteIsSentAgainToTheSameUnit) {
  portal_.unit_attention = GetParam();
  EXPECT_EQ(Write(), IoStatus::kOk);
  EXPECT_FALSE(is_untouched());
}

// REPORTED LUNS DATA HAS CHANGED, INQUIRY DATA HAS CHANGED, POWER ON or reset, I_T NEXUS LOSS, NOT
// READY TO READY CHANGE.
INSTANTIATE_TEST_SUITE_P(Codes, UnitAttentionTest,
                         testing::Values(0x3f0e, 0x3f03, 0x2900, 0x2907, 0x2800));

TEST_F(UnitIdentityTest, TheUnitIsVerifiedAfterAPause) {
  EXPECT_EQ(Write(), IoStatus::kOk);
  portal_.content.assign(portal_.content.size(), '\0');
  portal_.unit = kOther;
  RunFor(5ms);
  EXPECT_EQ(Write(), IoStatus::kGone);
  EXPECT_TRUE(is_untouched());
  // The unit is back.
  portal_.unit = 7;
  EXPECT_EQ(Write(), IoStatus::kOk);
}

// The write that the target holds is outstanding all the time, so there is no pause. The watch
// would find the other unit after 5 s.
TEST_F(UnitIdentityTest, TheUnitIsVerifiedDuringContinuousIo) {
  TestIo held(IoType::kWrite, 0, 1, 512, std::byte{1});
  SubmitHeld(held);
  portal_.unit = kOther;
  const auto end = std::chrono::steady_clock::now() + 3s;
  std::optional<IoStatus> status = IoStatus::kOk;
  while (status == IoStatus::kOk && std::chrono::steady_clock::now() < end) {
    TestIo flush(IoType::kFlush, 0, 0, 512);
    status = RunIo(*channel_, flush);
  }
  EXPECT_EQ(status, IoStatus::kGone);
  RunUntil([&] { return held.result.has_value(); });
  EXPECT_EQ(held.result, IoStatus::kGone);
}

// Verifications that are answered fast are repeated more often than once a second.
TEST_F(UnitIdentityTest, AnotherUnitIsFoundSoonDuringContinuousIo) {
  const auto flush = [&] {
    TestIo io(IoType::kFlush, 0, 0, 512);
    return RunIo(*channel_, io);
  };
  // The period starts with the next verification.
  const size_t before = portal_.identity_isids.size();
  while (portal_.identity_isids.size() == before) ASSERT_EQ(flush(), IoStatus::kOk);
  portal_.unit = kOther;
  const auto start = std::chrono::steady_clock::now();
  while (flush() == IoStatus::kOk) {
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, 900ms);
}

TEST_F(UnitIdentityTest, AWriteThatAnotherUnitMayHaveExecutedIsNotAcknowledged) {
  TestIo held(IoType::kWrite, 1, 1, 512, std::byte{2});
  SubmitHeld(held);
  portal_.hold = false;
  portal_.unit_attention = 0x3f0e;
  portal_.next_unit = kOther;
  TestIo write(IoType::kWrite, 0, 1, 512, std::byte{1});
  channel_->Submit(write);
  RunUntil([&] { return !portal_.unit_attention; });
  EXPECT_EQ(portal_.Release(), 1);
  RunUntil([&] { return held.result && write.result; });
  EXPECT_EQ(held.result, IoStatus::kGone);
  EXPECT_EQ(write.result, IoStatus::kGone);
}

TEST_F(UnitIdentityTest, TheWatchFindsAnotherUnit) {
  TestIo held(IoType::kWrite, 0, 1, 512, std::byte{1});
  SubmitHeld(held);
  portal_.unit = kOther;
  static_cast<IscsiBdev&>(*registry_.Find("is0")).watch().ReadSoon();
  RunUntil([&] { return held.result.has_value(); });
  EXPECT_EQ(held.result, IoStatus::kGone);
  EXPECT_TRUE(is_untouched());
}

TEST_F(UnitIdentityTest, AllSessionsVerifyTheUnit) {
  auto other = descriptor_->OpenChannel(*reactor_);
  EXPECT_EQ(Write(*other), IoStatus::kOk);
  portal_.identity_isids.clear();
  portal_.unit_attention = 0x3f0e;
  EXPECT_EQ(Write(), IoStatus::kOk);
  // Those of the two channels and of the watch. The latter would do it by itself only seconds
  // later.
  ASSERT_TRUE(reactor_->RunUntil(
      [&] {
        return std::set(portal_.identity_isids.begin(), portal_.identity_isids.end()).size() == 3;
      },
      3s));
}

TEST_F(UnitIdentityTest, AUnitThatIsRemovedFailsCommands) {
  portal_.connected = false;
  EXPECT_EQ(Write(), IoStatus::kFailed);
  EXPECT_EQ(Write(), IoStatus::kFailed);
  portal_.connected = true;
  EXPECT_EQ(Write(), IoStatus::kOk);
}

TEST_F(UnitIdentityTest, AWriteThatWaitsForAConnectionIsNotSentToAnotherUnit) {
  TestIo write(IoType::kWrite, 0, 1, 512, std::byte{1});
  SubmitHeld(write);
  portal_.unit = kOther;
  portal_.DropConnections();
  RunUntil([&] { return write.result.has_value(); });
  EXPECT_EQ(write.result, IoStatus::kGone);
  EXPECT_TRUE(is_untouched());
}

}  // namespace
}  // namespace sma::storage_target::bdev_iscsi
