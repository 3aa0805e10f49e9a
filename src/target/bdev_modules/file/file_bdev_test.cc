#include "target/bdev_modules/file/file_bdev.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "base/unique_fd.h"
#include "target/bdev_modules/file/file_fixture.h"

namespace sma::target::bdev_modules {
namespace {

using bdev::IoStatus;
using bdev::IoType;
using bdev::Registry;
using bdev::TestIo;
using std::chrono::seconds;

// The loop does not run between what is submitted and its end. /dev/shm is such a file system on
// every Linux.
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
  // Aligned as the strictest of such files wants it.
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

TEST_P(FileBdevTest, AlignedBuffersAreReadAndWritten) {
  Open();
  Write(8192, 65536, 0);
  ExpectPattern(8192, 65536, 0);
  EXPECT_EQ(InFile(8192 + 65535), Pattern(8192 + 65535));
}

TEST_P(FileBdevTest, UnalignedBuffersToo) {
  Open();
  Write(4096, 1 << 20, 3);
  ExpectPattern(4096, 1 << 20, 0);
  ExpectPattern(8192, 700 * 1024, 1);
}

TEST_P(FileBdevTest, ManyUnalignedAtOnceShareTheBuffers) {
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

TEST_P(FileBdevTest, AReadOnlyOneRefusesWrites) {
  ASSERT_EQ(::fchmod(file_.fd(), 0400), 0);
  Open({.read_only = true});
  EXPECT_EQ(RunRange(IoType::kUnmap, 0, 4096), IoStatus::kReadOnly);
  TestIo write(IoType::kWrite, 0, 1, GetParam().block_size);
  EXPECT_EQ(Run(write), IoStatus::kReadOnly);
  TestIo read(IoType::kRead, 0, 1, GetParam().block_size);
  EXPECT_EQ(Run(read), IoStatus::kOk);
}

TEST_P(FileBdevTest, AFileCutShortEndsInErrors) {
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

TEST_P(FileBdevTest, RemovedUnderIo) {
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

TEST(FileBdevCreateTest, SaysWhatIsWrong) {
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

TEST(FileBdevCreateTest, GoesPastThePageCacheWhereTheFileAllowsIt) {
  TempFile file(1 << 20);
  base::UniqueFd probe(::open(file.path().c_str(), O_RDONLY | O_DIRECT));
  auto made = MakeFileBdev({.name = "F", .path = file.path(), .block_size = 4096});
  ASSERT_TRUE(made.ok());
  EXPECT_EQ((*made)->info().buffer_alignment > 1, probe.valid());
}

}  // namespace
}  // namespace sma::target::bdev_modules
