// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>

#include "storage_target/bdev/testing/test_bdev.h"

// For tests only: a channel of a TestBdev.

namespace sma::storage_target::bdev {

class ChannelTest : public testing::Test {
 protected:
  static constexpr uint32_t kBlockSize = 512;
  static constexpr uint64_t kBlocks = 10'000;

  void Open(Bdev::Info info = {}, Registry::Access access = Registry::Access::kWrite) {
    info.name = "T";
    info.block_size = kBlockSize;
    info.block_count = kBlocks;
    ASSERT_EQ(registry_.Register(std::make_unique<TestBdev>(info, module_)), 0);
    auto opened = registry_.Open("T", access, &events_);
    ASSERT_TRUE(opened.ok());
    descriptor_ = std::move(*opened);
    channel_ = descriptor_->OpenChannel(*reactor_);
  }

  IoStatus Run(TestIo& io) {
    std::optional<IoStatus> status = RunIo(*channel_, io);
    EXPECT_TRUE(status.has_value());
    EXPECT_EQ(channel_->outstanding(), 0U);
    return status.value_or(IoStatus::kFailed);
  }

  IoStatus Run(IoType type, uint64_t lba, uint64_t block_count) {
    TestIo io(type, lba, block_count, kBlockSize);
    return Run(io);
  }

  TestChannel& test_channel() { return static_cast<TestChannel&>(*channel_); }

  TestModule module_;
  TestEvents events_;
  std::unique_ptr<Reactor> reactor_ = Reactor::ForThisThread({});
  Registry registry_{*reactor_};
  std::unique_ptr<Descriptor> descriptor_;
  std::unique_ptr<Channel> channel_;
};

}  // namespace sma::storage_target::bdev
