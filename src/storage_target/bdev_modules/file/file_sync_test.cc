// SPDX-License-Identifier: Apache-2.0

// Tests what follows when the kernel reports that it has lost data. The bdev's descriptor is made
// to refer to the end of a pipe, which cannot be written or synchronised, and then to the file
// again, whose next fdatasync succeeds, as it does after Linux has reported a failed write of dirty
// pages.

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "storage_target/bdev_modules/file/testing/file_fixture.h"

namespace sma::storage_target::bdev_file {
namespace {

using bdev::IoStatus;
using bdev::IoType;

class FileSyncTest : public FileBdevTest {
 protected:
  /// Returns the bdev's descriptor.
  int FindFd() {
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
      std::error_code error;
      const int fd = std::stoi(entry.path().filename());
      if (fd != file_.fd() && std::filesystem::read_symlink(entry, error) == file_.path()) {
        return fd;
      }
    }
    return -1;
  }
  /// Runs `io` while the bdev's descriptor is a pipe.
  template <typename F>
  IoStatus RunBroken(F io) {
    const int fd = FindFd();
    EXPECT_GE(fd, 0);
    const base::UniqueFd good(::dup(fd));
    int pipe_ends[2];
    EXPECT_EQ(::pipe2(pipe_ends, O_CLOEXEC), 0);
    const base::UniqueFd read_end(pipe_ends[0]);
    const base::UniqueFd write_end(pipe_ends[1]);
    EXPECT_EQ(::dup2(read_end.get(), fd), fd);
    const IoStatus status = io();
    EXPECT_EQ(::dup2(good.get(), fd), fd);
    return status;
  }
  IoStatus Flush() { return RunRange(IoType::kFlush, 0, 0); }
  IoStatus WriteBlock(bool fua, size_t skew = 0) {
    std::vector<char> buffer(2 * kBlockSize + skew, 'w');
    bdev::TestIo io(IoType::kWrite, 0, Lba(kBlockSize), GetParam().block_size);
    io.iov = {Align(buffer.data()) + skew, kBlockSize};
    io.fua = fua;
    return Run(io);
  }
  void Reopen() {
    channel_.reset();
    descriptor_.reset();
    bool gone = false;
    registry_.Unregister(*registry_.Find("F"), [&] { gone = true; });
    ASSERT_TRUE(reactor_->RunUntil([&] { return gone; }, std::chrono::seconds(30)));
    Open();
  }
};

TEST_P(FileSyncTest, AfterAFailedFlushNoFlushSucceedsUntilTheBdevIsOpenedAgain) {
  Open();
  EXPECT_EQ(WriteBlock(false), IoStatus::kOk);
  EXPECT_EQ(Flush(), IoStatus::kOk);
  EXPECT_EQ(RunBroken([&] { return Flush(); }), IoStatus::kFailed);
  EXPECT_EQ(Flush(), IoStatus::kFailed);
  EXPECT_EQ(WriteBlock(true), IoStatus::kFailed);
  EXPECT_EQ(WriteBlock(true, 1), IoStatus::kFailed);
  EXPECT_EQ(RunRange(IoType::kWriteZeroes, 0, kBlockSize, true), IoStatus::kFailed);
  EXPECT_EQ(WriteBlock(false), IoStatus::kOk);
  EXPECT_EQ(WriteBlock(false, 1), IoStatus::kOk);
  EXPECT_EQ(RunRange(IoType::kWriteZeroes, 0, kBlockSize), IoStatus::kOk);
  // The channel of another host.
  auto mine = std::move(channel_);
  channel_ = descriptor_->OpenChannel(*reactor_);
  EXPECT_EQ(Flush(), IoStatus::kFailed);
  mine.reset();
  Reopen();
  EXPECT_EQ(Flush(), IoStatus::kOk);
  EXPECT_EQ(WriteBlock(true), IoStatus::kOk);
}

TEST_P(FileSyncTest, AFailedFuaWriteThroughThePageCacheMayHaveLostOtherWrites) {
  Open();
  const bool cached = channel_->bdev().info().buffer_alignment == 1;
  EXPECT_EQ(RunBroken([&] { return WriteBlock(true); }), IoStatus::kFailed);
  EXPECT_EQ(Flush(), cached ? IoStatus::kFailed : IoStatus::kOk);
}

TEST_P(FileSyncTest, OtherFailuresLoseNoData) {
  Open();
  EXPECT_EQ(RunBroken([&] { return WriteBlock(false); }), IoStatus::kFailed);
  EXPECT_EQ(Flush(), IoStatus::kOk);
}

INSTANTIATE_TEST_SUITE_P(Backends, FileSyncTest, testing::ValuesIn(Cases()), CaseName);

}  // namespace
}  // namespace sma::storage_target::bdev_file
