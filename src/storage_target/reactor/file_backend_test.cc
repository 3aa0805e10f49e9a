// SPDX-License-Identifier: Apache-2.0

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "storage_target/reactor/reactor.h"
#include "storage_target/reactor/testing/cpu_time.h"

namespace sma::storage_target {
namespace {

using std::chrono::seconds;

// An operation that stores its result.
struct TestOp : FileOp {
  TestOp() {
    done = [](FileOp& self, int64_t result) {
      auto& mine = static_cast<TestOp&>(self);
      mine.finished = true;
      mine.value = result;
    };
  }
  bool finished = false;
  int64_t value = 0;
};

class FileBackendTest : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    std::string path = testing::TempDir() + "/file_backend_XXXXXX";
    file_.Reset(::mkostemp(path.data(), O_CLOEXEC));
    ASSERT_TRUE(file_.valid());
    ::unlink(path.c_str());
    ASSERT_EQ(::ftruncate(file_.get(), kFileSize), 0);
  }

  int64_t RunOp(TestOp& op) {
    op.fd = file_.get();
    reactor_->SubmitFileOp(op);
    EXPECT_TRUE(reactor_->RunUntil([&] { return op.finished; }, seconds(30)));
    return op.value;
  }

  int64_t Write(char fill, uint64_t offset, size_t size, bool dsync = false) {
    std::string data(size, fill);
    iovec iov{data.data(), size};
    TestOp op;
    op.kind = FileOp::Kind::kWritev;
    op.dsync = dsync;
    op.iovs = &iov;
    op.iov_count = 1;
    op.offset_bytes = offset;
    return RunOp(op);
  }

  std::string Read(uint64_t offset, size_t size) {
    std::string data(size, '?');
    std::array<iovec, 2> iovs = {iovec{data.data(), size / 2},
                                 iovec{data.data() + size / 2, size - size / 2}};
    TestOp op;
    op.kind = FileOp::Kind::kReadv;
    op.iovs = iovs.data();
    op.iov_count = 2;
    op.offset_bytes = offset;
    EXPECT_EQ(RunOp(op), static_cast<int64_t>(size));
    return data;
  }

  int64_t RunRange(FileOp::Kind kind, uint64_t offset, uint64_t length) {
    TestOp op;
    op.kind = kind;
    op.offset_bytes = offset;
    op.length_bytes = length;
    return RunOp(op);
  }

  static constexpr off_t kFileSize = 1 << 20;
  std::unique_ptr<Reactor> reactor_ = Reactor::ForThisThread({.io_uring = GetParam()});
  base::UniqueFd file_;
};

TEST_P(FileBackendTest, WritesReadsAndSyncs) {
  EXPECT_EQ(reactor_->uses_io_uring(), GetParam());
  EXPECT_EQ(Write('a', 4096, 8192), 8192);
  EXPECT_EQ(Write('b', 8192, 10, true), 10);
  EXPECT_EQ(Read(4094, 4), std::string("\0\0aa", 4));
  EXPECT_EQ(Read(8191, 12), "abbbbbbbbbba");
  EXPECT_EQ(RunRange(FileOp::Kind::kFsync, 0, 0), 0);
  EXPECT_EQ(RunRange(FileOp::Kind::kFdatasync, 0, 0), 0);
}

TEST_P(FileBackendTest, PunchHoleFreesTheSpaceAndReadsZeroes) {
  EXPECT_EQ(Write('a', 0, 65536), 65536);
  struct stat before {};
  ::fstat(file_.get(), &before);
  EXPECT_EQ(RunRange(FileOp::Kind::kPunchHole, 0, 65536), 0);
  struct stat after {};
  ::fstat(file_.get(), &after);
  EXPECT_LT(after.st_blocks, before.st_blocks);
  EXPECT_EQ(after.st_size, kFileSize);
  EXPECT_EQ(Read(100, 4), std::string(4, '\0'));
}

TEST_P(FileBackendTest, ErrorsAreReturnedAsNegativeErrno) {
  file_.Reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(Write('a', 0, 1), -EBADF);
}

TEST_P(FileBackendTest, ManyMoreOperationsThanRingEntries) {
  constexpr size_t kOps = 3000;
  std::vector<uint32_t> words(kOps);
  std::vector<iovec> iovs(kOps);
  std::vector<TestOp> ops(kOps);
  for (size_t i = 0; i < kOps; ++i) {
    words[i] = static_cast<uint32_t>(i);
    iovs[i] = {&words[i], sizeof(uint32_t)};
    ops[i].kind = FileOp::Kind::kWritev;
    ops[i].fd = file_.get();
    ops[i].iovs = &iovs[i];
    ops[i].iov_count = 1;
    ops[i].offset_bytes = i * sizeof(uint32_t);
    reactor_->SubmitFileOp(ops[i]);
  }
  auto all_finished = [&] {
    for (TestOp& op : ops) {
      if (!op.finished) return false;
    }
    return true;
  };
  ASSERT_TRUE(reactor_->RunUntil(all_finished, seconds(60)));
  for (TestOp& op : ops) EXPECT_EQ(op.value, 4);
  std::string last = Read((kOps - 1) * sizeof(uint32_t), 4);
  EXPECT_EQ(*reinterpret_cast<const uint32_t*>(last.data()), kOps - 1);
}

// A completion may submit the next operation.
TEST_P(FileBackendTest, DoneMaySubmit) {
  struct Chain : FileOp {
    Reactor* reactor;
    int left = 50;
  };
  Chain chain;
  chain.kind = FileOp::Kind::kFdatasync;
  chain.fd = file_.get();
  chain.reactor = reactor_.get();
  chain.done = [](FileOp& self, int64_t) {
    auto& mine = static_cast<Chain&>(self);
    if (--mine.left > 0) mine.reactor->SubmitFileOp(mine);
  };
  reactor_->SubmitFileOp(chain);
  EXPECT_TRUE(reactor_->RunUntil([&] { return chain.left == 0; }, seconds(30)));
}

// A host that stops waiting for a slow disk aborts all of its I/O.
TEST_P(FileBackendTest, AnyOfManyWaitingOperationsIsCancelledQuickly) {
  if (GetParam()) GTEST_SKIP() << "the kernel has accepted all of them";
  constexpr size_t kOps = 60'000;
  std::vector<char> data(256 * 1024);
  iovec iov{data.data(), data.size()};
  std::vector<TestOp> ops(kOps);
  const uint64_t start_ns = ThreadCpuNs();
  for (TestOp& op : ops) {
    op.kind = FileOp::Kind::kWritev;
    op.fd = file_.get();
    op.iovs = &iov;
    op.iov_count = 1;
    reactor_->SubmitFileOp(op);
  }
  const uint64_t submitted_ns = ThreadCpuNs();
  size_t cancelled = 0;
  for (size_t i = kOps; i-- > 0;) {  // the last ones have most operations before them
    if (!reactor_->CancelFileOp(ops[i])) continue;
    ++cancelled;
    ops[i].finished = true;
  }
  const uint64_t cancelled_ns = ThreadCpuNs();
  EXPECT_GT(cancelled, kOps / 100);
  EXPECT_LT(cancelled_ns - submitted_ns, 3 * (submitted_ns - start_ns));
  for (TestOp& op : ops) ASSERT_TRUE(reactor_->RunUntil([&] { return op.finished; }, seconds(60)));
  RecordProperty("submit_us", static_cast<int>((submitted_ns - start_ns) / 1000));
  RecordProperty("cancel_us", static_cast<int>((cancelled_ns - submitted_ns) / 1000));
}

// Some containers forbid io_uring; then only the thread pool is tested.
std::vector<bool> Backends() {
  if (!Reactor::ForThisThread({.io_uring = true})->uses_io_uring()) return {false};
  return {false, true};
}

INSTANTIATE_TEST_SUITE_P(Backends, FileBackendTest, testing::ValuesIn(Backends()),
                         [](const testing::TestParamInfo<bool>& param) {
                           return param.param ? "IoUring" : "ThreadPool";
                         });

}  // namespace
}  // namespace sma::storage_target
