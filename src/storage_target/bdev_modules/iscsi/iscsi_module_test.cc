// SPDX-License-Identifier: Apache-2.0

#include <gtest/gtest.h>

#include <cstring>
#include <set>

#include "storage_target/bdev_modules/iscsi/testing/iscsi_fixture.h"

namespace sma::storage_target::bdev_iscsi {
namespace {

using bdev::IoStatus;
using bdev::IoType;
using bdev::TestIo;

using IscsiModuleTest = IscsiFixture;

TEST_F(IscsiModuleTest, AReadWithoutAllItsDataFails) {
  Open();
  portal_.content.assign(portal_.content.size(), 'x');
  TestIo whole(IoType::kRead, 0, 16, 512);
  EXPECT_EQ(RunIo(*channel_, whole), IoStatus::kOk);
  EXPECT_EQ(whole.data.back(), std::byte{'x'});
  for (size_t bytes : {size_t{0}, size_t{512}, size_t{4096}, size_t{7680}}) {
    portal_.read_bytes = bytes;
    TestIo read(IoType::kRead, 0, 16, 512);
    EXPECT_EQ(RunIo(*channel_, read), IoStatus::kFailed) << bytes;
  }
  portal_.read_bytes.reset();
  TestIo again(IoType::kRead, 0, 16, 512);
  EXPECT_EQ(RunIo(*channel_, again), IoStatus::kOk);
}

TEST_F(IscsiModuleTest, AReadWithAGapInItsDataFails) {
  Open();
  for (auto& byte : portal_.content) byte = static_cast<char>(&byte - portal_.content.data());
  for (auto gap : {std::pair<size_t, size_t>(0, 4), {512, 1024}, {2048, 2056}, {8100, 8188}}) {
    portal_.read_gap = gap;
    TestIo read(IoType::kRead, 0, 16, 512);
    EXPECT_EQ(RunIo(*channel_, read), IoStatus::kFailed) << gap.first;
  }
  // From now on, the data are sent without a gap.
  portal_.read_gap = {};
  portal_.io_count = 0;
  TestIo read(IoType::kRead, 0, 16, 512);
  EXPECT_EQ(RunIo(*channel_, read), IoStatus::kOk);
  EXPECT_EQ(std::memcmp(read.data.data(), portal_.content.data(), read.data.size()), 0);
  EXPECT_EQ(portal_.io_count, 1);
}

// The data of the reads are complete, so only the residual count shows that they are not.
TEST_F(IscsiModuleTest, AnIoWithAResidualCountFails) {
  Open();
  for (int residual : {1, 512, 8192, 8193, -512}) {
    portal_.residual = residual;
    for (IoType type : {IoType::kRead, IoType::kWrite}) {
      TestIo io(type, 0, 16, 512, std::byte{1});
      EXPECT_EQ(RunIo(*channel_, io), IoStatus::kFailed) << residual;
    }
  }
  portal_.residual = 0;
  for (IoType type : {IoType::kRead, IoType::kWrite}) {
    TestIo io(type, 0, 16, 512, std::byte{1});
    EXPECT_EQ(RunIo(*channel_, io), IoStatus::kOk);
  }
}

TEST_F(IscsiModuleTest, ALogicalUnitBehindTwoTargetsHasOneBdev) {
  Open();
  FakePortal other(*reactor_);
  other.target = "iqn.2016-06.io.spdk:other";
  EXPECT_EQ(Create("is1", other).error(), EBUSY);
  // Locally assigned names are not unique: many hosts use the same ones.
  Delete("is0");
  portal_.naa = other.naa = 3;
  EXPECT_TRUE(Create("is0", portal_).ok());
  EXPECT_TRUE(Create("is1", other).ok());
  Delete("is1");
}

TEST_F(IscsiModuleTest, ALogicalUnitHasOneBdev) {
  Open();
  EXPECT_EQ(Create("is1", portal_).error(), EBUSY);
  EXPECT_EQ(registry_.Find("is1"), nullptr);
  // Exports the same unit at another portal.
  FakePortal other(*reactor_);
  EXPECT_EQ(Create("is1", other).error(), EBUSY);
  Delete("is0");
  EXPECT_TRUE(Create("is0", other).ok());
  Delete("is0");
}

TEST_F(IscsiModuleTest, AWriteProtectedUnitIsReadOnly) {
  portal_.write_protected = true;
  ASSERT_TRUE(Create("is0", portal_).ok());
  EXPECT_TRUE(registry_.Find("is0")->info().read_only);
  Delete("is0");
  portal_.write_protected = false;
  ASSERT_TRUE(Create("is0", portal_).ok());
  EXPECT_FALSE(registry_.Find("is0")->info().read_only);
}

TEST_F(IscsiModuleTest, AWriteThatWaitsForAConnectionIsAborted) {
  Open();
  TestIo first(IoType::kWrite, 0, 1, 512, std::byte{1});
  SubmitHeld(first);
  portal_.DropConnections();
  TestIo second(IoType::kWrite, 1, 1, 512, std::byte{2});
  // The first write counts as sent until the loss is detected.
  RunUntil([&] { return first.result || channel_->Abort(first); });
  EXPECT_EQ(first.result, IoStatus::kAborted);
  channel_->Submit(second);
  EXPECT_TRUE(channel_->Abort(second));
  EXPECT_EQ(second.result, IoStatus::kAborted);
  portal_.hold = false;
  TestIo read(IoType::kRead, 0, 2, 512);
  EXPECT_EQ(RunIo(*channel_, read), IoStatus::kOk);
  EXPECT_EQ(portal_.content, std::string(portal_.content.size(), '\0'));
}

TEST_F(IscsiModuleTest, ACommandAtTheTargetIsAbortedThere) {
  Open();
  TestIo write(IoType::kWrite, 0, 1, 512, std::byte{1});
  SubmitHeld(write);
  EXPECT_FALSE(channel_->Abort(write));
  EXPECT_FALSE(channel_->Abort(write));
  RunUntil([&] { return write.result.has_value(); });
  EXPECT_EQ(write.result, IoStatus::kAborted);
  EXPECT_EQ(portal_.abort_count, 1);
  EXPECT_EQ(portal_.Release(), 0);
  ExpectZeroes();
}

TEST_F(IscsiModuleTest, AnAbortedCommandIsNotSentAgainAfterALoss) {
  Open();
  TestIo write(IoType::kWrite, 0, 1, 512, std::byte{1});
  SubmitHeld(write);
  EXPECT_FALSE(channel_->Abort(write));
  portal_.DropConnections();
  portal_.hold = false;
  RunUntil([&] { return write.result.has_value(); });
  EXPECT_EQ(write.result, IoStatus::kAborted);
  ExpectZeroes();
  EXPECT_EQ(portal_.io_count, 2);
}

TEST_F(IscsiModuleTest, AFlushUsesTheFormThatTheUnitSupports) {
  Open();
  portal_.unknown_opcodes = {0x91};
  for (int count : {1, 2}) {
    TestIo flush(IoType::kFlush, 0, 0, 512);
    EXPECT_EQ(RunIo(*channel_, flush), IoStatus::kOk);
    EXPECT_EQ(portal_.flush_count, count);
  }
  // A unit that does not support these commands has no cache.
  portal_.unknown_opcodes = {0x91, 0x35};
  TestIo flush(IoType::kFlush, 0, 0, 512);
  EXPECT_EQ(RunIo(*channel_, flush), IoStatus::kOk);
  EXPECT_EQ(portal_.flush_count, 2);
}

// After an orderly close the kernel would still send its queued data.
TEST_F(IscsiModuleTest, AConnectionWithOutstandingCommandsIsReset) {
  Open();
  portal_.hold = true;
  TestIo write(IoType::kWrite, 0, 1, 512, std::byte{1});
  channel_->Submit(write);
  RunUntil([&] { return portal_.io_count == 1; });
  registry_.Reset(*registry_.Find("is0"), [](int) {});
  RunUntil([&] { return write.result.has_value() && portal_.reset_count == 1; });
  EXPECT_EQ(write.result, IoStatus::kAborted);
}

// The target then ends the commands of the old connection before they are sent again.
TEST_F(IscsiModuleTest, ASessionKeepsItsIsidAfterALoss) {
  Open();
  // There were three sessions: that of the probe, which has ended, that of the watch, and that of
  // the channel.
  RunUntil([&] { return portal_.isids.size() == 3; });
  const std::set<std::string> first(portal_.isids.begin() + 1, portal_.isids.end());
  EXPECT_EQ(first.size(), 2u);
  EXPECT_FALSE(first.contains(portal_.isids.front()));
  portal_.DropConnections();
  RunUntil([&] { return portal_.isids.size() == 5; });
  EXPECT_EQ(std::set<std::string>(portal_.isids.begin() + 3, portal_.isids.end()), first);
}

}  // namespace
}  // namespace sma::storage_target::bdev_iscsi
