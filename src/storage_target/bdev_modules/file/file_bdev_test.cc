// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/file/file_bdev.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>

#include "base/unique_fd.h"
#include "storage_target/bdev_modules/file/testing/file_fixture.h"

namespace sma::storage_target::bdev_file {
namespace {

using bdev::IoStatus;
using bdev::IoType;
using bdev::Registry;
using bdev::TestIo;
using std::chrono::seconds;

// The I/O completes without running the event loop. /dev/shm is an in-memory file system on every
// Linux.
TEST_P(FileBdevTest, AFileInMemoryIsReadAndWrittenAtOnce) {
  TempFile file(kBlocks * kBlockSize, "/dev/shm");
  auto made = MakeFileBdev(
      {.name = "M", .path = file.path(), .block_size = GetParam().block_size, .read_only = false});
  ASSERT_TRUE(made.ok());
  ASSERT_EQ(registry_.Register(std::move(*made)), 0);
  auto opened = registry_.Open("M", Registry::Access::kWrite, &events_);
  ASSERT_TRUE(opened.ok());
  auto channel = (*opened)->OpenChannel(*reactor_);
  TestIo write(IoType::kWrite, 1, 1, GetParam().block_size, std::byte{7});
  // Aligned for the strictest of such file systems.
  std::vector<char> buffer(2 * kBlockSize, 7);
  write.iov.iov_base = Align(buffer.data());
  channel->Submit(write);
  EXPECT_EQ(write.result, IoStatus::kOk);
  TestIo read(IoType::kRead, 1, 1, GetParam().block_size);
  std::vector<char> read_buffer(2 * kBlockSize);
  read.iov.iov_base = Align(read_buffer.data());
  channel->Submit(read);
  EXPECT_EQ(read.result, IoStatus::kOk);
  EXPECT_EQ(*static_cast<char*>(read.iov.iov_base), 7);
  char byte = 0;
  EXPECT_EQ(::pread(file.fd(), &byte, 1, GetParam().block_size), 1);
  EXPECT_EQ(byte, 7);
  TestIo beyond(IoType::kRead, 1, 1, GetParam().block_size);
  beyond.iov.iov_base = Align(read_buffer.data());
  ASSERT_EQ(::ftruncate(file.fd(), 0), 0);
  channel->Submit(beyond);
  EXPECT_EQ(beyond.result, IoStatus::kFailed);
}

// A guest's request for a gigabyte must leave time for the I/O of others.
TEST(FileInMemoryTest, LargeReadsAndWritesAreCopiedInTurns) {
  constexpr uint64_t kBytes = 8 << 20;
  constexpr uint32_t kSize = 4096;
  TempFile file(kBytes, "/dev/shm");
  auto reactor = Reactor::ForThisThread({});
  Registry registry{*reactor};
  bdev::TestEvents events;
  auto made =
      MakeFileBdev({.name = "M", .path = file.path(), .block_size = kSize, .read_only = false});
  ASSERT_TRUE(made.ok());
  ASSERT_EQ(registry.Register(std::move(*made)), 0);
  auto descriptor = std::move(*registry.Open("M", Registry::Access::kWrite, &events));
  auto channel = descriptor->OpenChannel(*reactor);
  TestIo write(IoType::kWrite, 0, kBytes / kSize, kSize);
  for (size_t i = 0; i < write.data.size(); ++i) write.data[i] = std::byte(i % 251);
  iovec iovs[] = {{write.data.data(), 100}, {write.data.data() + 100, write.data.size() - 100}};
  write.iovs = iovs;
  write.iov_count = 2;
  TestIo read(IoType::kRead, 0, kBytes / kSize, kSize);
  TestIo behind(IoType::kRead, 0, 1, kSize);
  TestIo aborted(IoType::kRead, 0, 1, kSize);
  for (TestIo* large : {&write, &read}) {
    channel->Submit(*large);
    if (large == &read) {
      channel->Submit(behind);
      channel->Submit(aborted);
      EXPECT_TRUE(channel->Abort(aborted));
    }
    int rounds = 0;
    while (!large->result && rounds < 100) {
      reactor->RunUntil([] { return false; }, std::chrono::nanoseconds(1));
      ++rounds;
    }
    EXPECT_EQ(large->result, IoStatus::kOk);
    EXPECT_GE(rounds, 6);
  }
  EXPECT_TRUE(read.data == write.data);
  ASSERT_TRUE(reactor->RunUntil([&] { return behind.result.has_value(); }, seconds(30)));
  EXPECT_EQ(behind.result, IoStatus::kOk);
  EXPECT_EQ(aborted.result, IoStatus::kAborted);
  TestIo stopped(IoType::kRead, 0, kBytes / kSize, kSize);
  channel->Submit(stopped);
  EXPECT_FALSE(channel->Abort(stopped));
  ASSERT_TRUE(reactor->RunUntil([&] { return stopped.result.has_value(); }, seconds(30)));
  EXPECT_EQ(stopped.result, IoStatus::kAborted);
}

// The blocks are large, so that a copy takes long.
TEST(FileInMemoryTest, ABlockThatAnotherReactorWritesIsReadWhole) {
  constexpr uint32_t kLargeBlock = 1 << 20;
  TempFile file(kLargeBlock, "/dev/shm");
  auto control = Reactor::ForThisThread({});
  bdev::Registry registry(*control);
  auto made = MakeFileBdev({.name = "M", .path = file.path(), .block_size = kLargeBlock});
  ASSERT_TRUE(made.ok());
  ASSERT_EQ(registry.Register(std::move(*made)), 0);
  auto descriptor = std::move(*registry.Open("M", Registry::Access::kWrite, nullptr));
  std::atomic<bool> stop{false};
  auto writer = Reactor::Start({.name = "writer"});
  std::unique_ptr<bdev::Channel> far;
  std::unique_ptr<TestIo> write;
  int writes = 0;
  const std::function<void()> write_next = [&] {
    if (stop) return far.reset();
    write = std::make_unique<TestIo>(IoType::kWrite, 0, 1, kLargeBlock, std::byte(++writes % 256));
    write->then = [&] { writer->Post(write_next); };
    far->Submit(*write);
  };
  writer->Post([&] {
    far = descriptor->OpenChannel(*writer);
    write_next();
  });
  auto channel = descriptor->OpenChannel(*control);
  int torn = 0;
  for (int round = 0; round < 30; ++round) {
    TestIo read(IoType::kRead, 0, 1, kLargeBlock);
    EXPECT_EQ(RunIo(*channel, read), IoStatus::kOk);
    torn += std::count(read.data.begin(), read.data.end(), read.data[0]) != kLargeBlock ? 1 : 0;
  }
  stop = true;
  for (bool gone = false; !gone;) writer->Invoke([&] { gone = far == nullptr; });
  EXPECT_EQ(torn, 0);
  channel.reset();
  writer->Stop();
}

TEST_P(FileBdevTest, AlignedBuffersAreReadAndWritten) {
  Open();
  Write(8192, 65536, 0);
  ExpectPattern(8192, 65536, 0);
  EXPECT_EQ(InFile(8192 + 65535), Pattern(8192 + 65535));
}

TEST_P(FileBdevTest, UnalignedBuffersAreReadAndWritten) {
  Open();
  Write(4096, 1 << 20, 3);
  ExpectPattern(4096, 1 << 20, 0);
  ExpectPattern(8192, 700 * 1024, 1);
}

TEST_P(FileBdevTest, ManyUnalignedIosShareTheBuffers) {
  Open();
  Write(0, 4 << 20, 0);
  constexpr size_t kIos = 100;
  std::vector<std::vector<char>> buffers(kIos, std::vector<char>(kBlockSize + 1));
  std::vector<std::unique_ptr<TestIo>> ios;
  size_t ended = 0;
  for (size_t i = 0; i < kIos; ++i) {
    auto io = std::make_unique<TestIo>(IoType::kRead, Lba(i * kBlockSize), 0, kBlockSize);
    io->block_count = Lba(kBlockSize);
    io->iov = {buffers[i].data() + 1, kBlockSize};
    io->then = [&] { ++ended; };
    channel_->Submit(*io);
    ios.push_back(std::move(io));
  }
  ASSERT_TRUE(reactor_->RunUntil([&] { return ended == kIos; }, seconds(30)));
  for (size_t i = 0; i < kIos; ++i) {
    EXPECT_EQ(ios[i]->result, IoStatus::kOk);
    EXPECT_EQ(buffers[i][100], Pattern(i * kBlockSize + 99));
  }
}

TEST_P(FileBdevTest, FuaAndFlushSucceed) {
  Open();
  Write(0, 4096, 0, true);
  EXPECT_EQ(RunRange(IoType::kFlush, 0, 0), IoStatus::kOk);
  EXPECT_EQ(InFile(1), Pattern(1));
}

TEST_P(FileBdevTest, UnmapPunchesHolesAndZeroesReadBack) {
  Open();
  Write(0, 1 << 20, 0);
  ASSERT_EQ(RunRange(IoType::kFlush, 0, 0), IoStatus::kOk);
  uint64_t before = file_.allocated_bytes();
  EXPECT_EQ(RunRange(IoType::kUnmap, 4096, 512 * 1024), IoStatus::kOk);
  EXPECT_LE(file_.allocated_bytes(), before - 256 * 1024);
  EXPECT_EQ(InFile(4096), 0);
  EXPECT_EQ(InFile(4095), Pattern(4095));
  EXPECT_EQ(RunRange(IoType::kWriteZeroes, 1 << 19, 1 << 19, true), IoStatus::kOk);
  EXPECT_EQ(InFile((1 << 20) - 1), 0);
}

TEST_P(FileBdevTest, AReadOnlyBdevRefusesWrites) {
  ASSERT_EQ(::fchmod(file_.fd(), 0400), 0);
  Open({.read_only = true});
  EXPECT_EQ(RunRange(IoType::kUnmap, 0, 4096), IoStatus::kReadOnly);
  TestIo write(IoType::kWrite, 0, 1, GetParam().block_size);
  EXPECT_EQ(Run(write), IoStatus::kReadOnly);
  TestIo read(IoType::kRead, 0, 1, GetParam().block_size);
  EXPECT_EQ(Run(read), IoStatus::kOk);
}

TEST_P(FileBdevTest, IoBeyondTheEndOfATruncatedFileFails) {
  Open();
  ASSERT_EQ(::ftruncate(file_.fd(), 8192), 0);
  TestIo beyond(IoType::kRead, Lba(16384), 1, GetParam().block_size);
  EXPECT_EQ(Run(beyond), IoStatus::kFailed);
  TestIo across(IoType::kRead, 0, Lba(65536), GetParam().block_size);
  EXPECT_EQ(Run(across), IoStatus::kFailed);
}

TEST_P(FileBdevTest, RescanFindsTheNewSize) {
  Open();
  EXPECT_EQ(RescanFileBdev(registry_, "F", FileFlavor::kUring), ENODEV);
  EXPECT_EQ(RescanFileBdev(registry_, "F", FileFlavor::kAio), 0);
  EXPECT_EQ(events_.resizes, 0);
  ASSERT_EQ(::ftruncate(file_.fd(), 2 * kBlocks * kBlockSize), 0);
  EXPECT_EQ(RescanFileBdev(registry_, "F", FileFlavor::kAio), 0);
  EXPECT_EQ(events_.resizes, 1);
  Write(kBlocks * kBlockSize, 4096, 0);
  ASSERT_EQ(::ftruncate(file_.fd(), kBlockSize), 0);
  EXPECT_EQ(RescanFileBdev(registry_, "F", FileFlavor::kAio), EBUSY);
  ASSERT_EQ(::ftruncate(file_.fd(), 100), 0);
  EXPECT_EQ(RescanFileBdev(registry_, "F", FileFlavor::kAio), EINVAL);
}

TEST_P(FileBdevTest, RemovalDuringIo) {
  Open();
  Write(0, 1 << 20, 0);
  struct Loop {
    std::unique_ptr<TestIo> io;
    int oks = 0;
  };
  std::vector<Loop> loops(16);
  size_t gone = 0;
  for (Loop& loop : loops) {
    loop.io = std::make_unique<TestIo>(IoType::kRead, 0, Lba(65536), GetParam().block_size);
    loop.io->then = [&] {
      if (loop.io->result == IoStatus::kOk) {
        ++loop.oks;
        channel_->Submit(*loop.io);
      } else {
        EXPECT_EQ(loop.io->result, IoStatus::kGone);
        ++gone;
      }
    };
    channel_->Submit(*loop.io);
  }
  ASSERT_TRUE(reactor_->RunUntil([&] { return loops.back().oks > 10; }, seconds(30)));
  bool removed = false;
  ASSERT_EQ(registry_.Unregister("F", "aio", [&] { removed = true; }), 0);
  ASSERT_TRUE(reactor_->RunUntil([&] { return gone == loops.size(); }, seconds(30)));
  EXPECT_FALSE(removed);
  channel_.reset();
  descriptor_.reset();
  EXPECT_TRUE(reactor_->RunUntil([&] { return removed; }, seconds(30)));
}

INSTANTIATE_TEST_SUITE_P(Backends, FileBdevTest, testing::ValuesIn(Cases()), CaseName);

int CreateError(const FileOptions& options) { return MakeFileBdev(options).error(); }

TEST(FileBdevCreateTest, ReportsErrors) {
  TempFile file(10'000);
  EXPECT_EQ(CreateError({.path = "/nonexistent/file", .block_size = 4096}), ENOENT);
  EXPECT_EQ(CreateError({.path = testing::TempDir(), .read_only = true}), EINVAL);
  EXPECT_EQ(CreateError({.path = "/dev/null"}), EINVAL);
  EXPECT_EQ(CreateError({.path = file.path(), .block_size = 4096}), EINVAL);
  ASSERT_EQ(::ftruncate(file.fd(), 8192), 0);
  EXPECT_EQ(CreateError({.path = file.path(), .block_size = 4096}), 0);
  EXPECT_EQ(CreateError({.path = file.path(), .block_size = 256}), EINVAL);
  EXPECT_EQ(CreateError({.path = file.path(), .block_size = 1000}), EINVAL);
  EXPECT_EQ(CreateError({.path = file.path()}), 0);
  ASSERT_EQ(::ftruncate(file.fd(), 0), 0);
  EXPECT_EQ(CreateError({.path = file.path(), .block_size = 4096}), EINVAL);
}

TEST(FileBdevCreateTest, UsesDirectIoWhereTheFileAllowsIt) {
  TempFile file(1 << 20);
  base::UniqueFd probe(::open(file.path().c_str(), O_RDONLY | O_DIRECT));
  auto made = MakeFileBdev({.name = "F", .path = file.path(), .block_size = 4096});
  ASSERT_TRUE(made.ok());
  EXPECT_EQ((*made)->info().buffer_alignment > 1, probe.valid());
}

}  // namespace
}  // namespace sma::storage_target::bdev_file
