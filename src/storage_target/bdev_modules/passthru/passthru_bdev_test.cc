// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/passthru/passthru_bdev.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "storage_target/bdev/testing/test_bdev.h"

namespace sma::storage_target::bdev_passthru {
namespace {

using bdev::IoStatus;
using bdev::IoType;
using bdev::Registry;
using bdev::TestIo;
using std::chrono::seconds;
using testing::ElementsAre;

constexpr char kBaseUuid[] = "00000001-1111-4222-8333-444444444444";

class PassthruTest : public testing::Test {
 protected:
  void MakeBase() {
    ASSERT_EQ(registry_.Register(std::make_unique<bdev::TestBdev>(
                  bdev::Bdev::Info{
                      .name = "Base", .uuid = *base::Uuid::Parse(kBaseUuid), .block_count = 100},
                  base_)),
              0);
  }
  bool Gone(const char* name) {
    return reactor_->RunUntil([&] { return registry_.Find(name) == nullptr; }, seconds(10));
  }
  bool Delete(const char* name) {
    bool done = false;
    EXPECT_EQ(passthru_.Delete(name, [&] { done = true; }), 0);
    return reactor_->RunUntil([&] { return done; }, seconds(10));
  }

  bdev::TestModule base_;
  std::unique_ptr<Reactor> reactor_ = Reactor::ForThisThread({});
  Registry registry_{*reactor_};
  PassthruModule passthru_{registry_};
};

TEST_F(PassthruTest, HandsIoDownAndClaimsItsBase) {
  MakeBase();
  ASSERT_EQ(passthru_.Create("Pt", "Base", {}), 0);
  EXPECT_EQ(passthru_.Create("Pt", "Base", {}), EEXIST);
  EXPECT_EQ(passthru_.Create("Pt2", "Base", {}), EPERM);
  bdev::Bdev& pt = *registry_.Find("Pt");
  EXPECT_EQ(pt.block_count(), 100U);
  // The UUID that SPDK derives from the UUID of this base.
  EXPECT_EQ(pt.info().uuid.ToString(), "112dbb21-62ba-5726-bed0-18717fa257cd");
  EXPECT_EQ(registry_.Find("Base")->claimant(), "passthru");

  bdev::TestEvents events;
  auto descriptor = std::move(*registry_.Open("Pt", Registry::Access::kWrite, &events));
  auto channel = descriptor->OpenChannel(*reactor_);
  base_.fill = std::byte{9};
  TestIo read(IoType::kRead, 7, 3, 512);
  EXPECT_EQ(RunIo(*channel, read), IoStatus::kOk);
  EXPECT_EQ(read.data[1535], std::byte{9});
  base_.status = IoStatus::kNoSpace;
  TestIo write(IoType::kWrite, 0, 1, 512);
  EXPECT_EQ(RunIo(*channel, write), IoStatus::kNoSpace);
  EXPECT_THAT(base_.seen_types, ElementsAre(IoType::kRead, IoType::kWrite));

  EXPECT_EQ(registry_.Resize(*registry_.Find("Base"), 200), 0);
  EXPECT_EQ(pt.block_count(), 200U);
  EXPECT_EQ(events.resizes, 1);
}

TEST_F(PassthruTest, IsCreatedAndRemovedWithItsBase) {
  EXPECT_EQ(passthru_.Create("Pt", kBaseUuid, {}), 0);
  EXPECT_EQ(registry_.Find("Pt"), nullptr);
  MakeBase();
  ASSERT_NE(registry_.Find("Pt"), nullptr);

  bdev::TestEvents events;
  auto descriptor = std::move(*registry_.Open("Pt", Registry::Access::kWrite, &events));
  bool base_gone = false;
  registry_.Unregister(*registry_.Find("Base"), [&] { base_gone = true; });
  EXPECT_EQ(events.removals, 1);
  EXPECT_FALSE(base_gone);
  descriptor.reset();
  EXPECT_TRUE(reactor_->RunUntil([&] { return base_gone; }, seconds(10)));
  EXPECT_TRUE(Gone("Pt"));

  MakeBase();
  ASSERT_NE(registry_.Find("Pt"), nullptr);
  EXPECT_TRUE(Delete("Pt"));
  EXPECT_EQ(registry_.Find("Base")->claimant(), std::nullopt);
  EXPECT_EQ(passthru_.Delete("Pt", [] {}), ENODEV);
}

TEST_F(PassthruTest, DeletedWithoutItsBaseItIsNotRecreated) {
  EXPECT_EQ(passthru_.Create("Pt", "Base", {}), 0);
  EXPECT_EQ(passthru_.Delete("Pt", [] {}), ENODEV);
  MakeBase();
  EXPECT_EQ(registry_.Find("Pt"), nullptr);
}

TEST_F(PassthruTest, ReadsInPlaceWhereItsBaseCan) {
  std::byte memory{4};
  base_.memory = &memory;
  MakeBase();
  ASSERT_EQ(passthru_.Create("Pt", "Base", {}), 0);
  bdev::TestEvents events;
  auto descriptor = std::move(*registry_.Open("Pt", Registry::Access::kWrite, &events));
  auto channel = descriptor->OpenChannel(*reactor_);
  EXPECT_EQ(channel->ReadInPlace(0, 100), &memory);
  EXPECT_EQ(channel->ReadInPlace(1, 100), nullptr);
  EXPECT_EQ(channel->WriteInPlace(0, 1), nullptr);
}

TEST_F(PassthruTest, AbortReachesTheBase) {
  MakeBase();
  ASSERT_EQ(passthru_.Create("Pt", "Base", {}), 0);
  // The limit is one I/O per second, so all I/Os after the first wait in the base's queue for rate
  // limits.
  registry_.SetLimits(*registry_.Find("Base"), {.rw_ios_per_sec = 1});
  bdev::TestEvents events;
  auto descriptor = std::move(*registry_.Open("Pt", Registry::Access::kWrite, &events));
  auto channel = descriptor->OpenChannel(*reactor_);
  base_.complete_at_once = false;
  TestIo first(IoType::kWrite, 0, 1, 512);
  TestIo second(IoType::kWrite, 1, 1, 512);
  channel->Submit(first);
  channel->Submit(second);
  EXPECT_TRUE(channel->Abort(second));
  EXPECT_EQ(second.result, IoStatus::kAborted);
  EXPECT_FALSE(channel->Abort(first));
  base_.can_abort = true;
  EXPECT_TRUE(channel->Abort(first));
  EXPECT_EQ(first.result, IoStatus::kAborted);
  EXPECT_EQ(base_.seen_types.size(), 1U);
}

}  // namespace
}  // namespace sma::storage_target::bdev_passthru
