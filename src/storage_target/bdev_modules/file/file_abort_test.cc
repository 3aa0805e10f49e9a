// SPDX-License-Identifier: Apache-2.0

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "storage_target/bdev_modules/file/testing/file_fixture.h"

namespace sma::storage_target::bdev_file {
namespace {

using bdev::IoStatus;
using bdev::IoType;
using bdev::TestIo;
using std::chrono::seconds;

using FileAbortTest = FileBdevTest;

// The channel has sixteen buffers. The other I/Os wait for one and are aborted; those that the
// kernel executes complete normally.
TEST_P(FileAbortTest, AbortEndsIosThatWaitForABuffer) {
  Open();
  if (channel_->bdev().info().buffer_alignment == 1) GTEST_SKIP() << "nothing is copied";
  std::vector<std::unique_ptr<TestIo>> writes;
  const uint64_t blocks = Lba(kBlockSize);
  for (uint64_t i = 0; i < 64; ++i) {
    auto& io = *writes.emplace_back(std::make_unique<TestIo>(IoType::kWrite, i * blocks, blocks + 1,
                                                             GetParam().block_size, std::byte{7}));
    io.block_count = blocks;
    io.iov = {io.data.data() + 1, kBlockSize};  // misaligned
    channel_->Submit(io);
  }
  size_t ended = 0;
  for (size_t i = 16; i < 64; ++i) ended += channel_->Abort(*writes[i]) ? 1 : 0;
  EXPECT_EQ(ended, 48U);
  ASSERT_TRUE(reactor_->RunUntil([&] { return channel_->outstanding() == 0; }, seconds(30)));
  for (size_t i = 0; i < 64; ++i) {
    EXPECT_EQ(writes[i]->result, i < 16 ? IoStatus::kOk : IoStatus::kAborted) << i;
    TestIo read(IoType::kRead, i * blocks, blocks, GetParam().block_size);
    EXPECT_EQ(Run(read), IoStatus::kOk);
    EXPECT_EQ(read.data[0], i < 16 ? std::byte{7} : std::byte{0}) << i;
  }
}

// The kernel does not accept all writes at once. Those that it has not accepted complete
// immediately and are never written.
TEST_P(FileAbortTest, AnAbortedWriteIsNeverWrittenLater) {
  Open();
  constexpr size_t kWrites = 1500;
  std::vector<std::unique_ptr<TestIo>> writes;
  const uint64_t blocks = Lba(kBlockSize);
  for (uint64_t i = 0; i < kWrites; ++i) {
    auto& io = *writes.emplace_back(std::make_unique<TestIo>(IoType::kWrite, i * blocks, 2 * blocks,
                                                             GetParam().block_size, std::byte{7}));
    io.block_count = blocks;
    void* at = io.data.data();
    size_t space = io.data.size();
    std::align(kBlockSize, kBlockSize, at, space);
    io.iov = {at, kBlockSize};
    channel_->Submit(io);
  }
  for (auto& write : writes) {
    if (!write->result) channel_->Abort(*write);
  }
  ASSERT_TRUE(reactor_->RunUntil([&] { return channel_->outstanding() == 0; }, seconds(60)));
  size_t aborted = 0;
  for (size_t i = 0; i < kWrites; ++i) {
    TestIo read(IoType::kRead, i * blocks, blocks, GetParam().block_size);
    EXPECT_EQ(Run(read), IoStatus::kOk);
    const bool written = read.data[0] == std::byte{7};
    if (writes[i]->result == IoStatus::kAborted) {
      ++aborted;
      EXPECT_FALSE(written) << i;
    } else {
      EXPECT_EQ(writes[i]->result, IoStatus::kOk) << i;
      EXPECT_TRUE(written) << i;
    }
  }
  RecordProperty("aborted", static_cast<int>(aborted));
}

INSTANTIATE_TEST_SUITE_P(Backends, FileAbortTest, testing::ValuesIn(Cases()), CaseName);

}  // namespace
}  // namespace sma::storage_target::bdev_file
