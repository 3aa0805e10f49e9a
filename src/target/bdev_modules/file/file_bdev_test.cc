#include "target/bdev_modules/file/file_bdev.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "base/unique_fd.h"
#include "target/bdev/test_bdev.h"

namespace sma::target::bdev_modules {
namespace {

using bdev::IoStatus;
using bdev::IoType;
using bdev::Registry;
using bdev::TestIo;
using std::chrono::seconds;

constexpr uint32_t kBlockSize = 4096;
constexpr uint64_t kBlocks = 2048;

class TempFile {
 public:
  explicit TempFile(off_t size, const std::string& folder = testing::TempDir()) {
    path_ = folder + "/file_bdev_XXXXXX";
    fd_.Reset(::mkostemp(path_.data(), O_CLOEXEC));
    EXPECT_TRUE(fd_.valid());
    EXPECT_EQ(::ftruncate(fd_.get(), size), 0);
  }
  ~TempFile() { ::unlink(path_.c_str()); }
  const std::string& path() const { return path_; }
  int fd() const { return fd_.get(); }
  uint64_t allocated_bytes() const {
    struct stat status {};
    ::fstat(fd_.get(), &status);
    return static_cast<uint64_t>(status.st_blocks) * 512;
  }

 private:
  std::string path_;
  base::UniqueFd fd_;
};

struct Case {
  bool io_uring;
  uint32_t block_size;  // 512 goes through the page cache where direct I/O takes 4096 only
};

class FileBdevTest : public testing::TestWithParam<Case> {
 protected:
  void Open(FileOptions options = {}) {
    options.name = "F";
    options.path = file_.path();
    options.block_size = GetParam().block_size;
    auto made = MakeFileBdev(options);
    ASSERT_TRUE(made.ok());
    ASSERT_EQ(registry_.Register(std::move(*made)), 0);
    auto opened = registry_.Open("F", Registry::Access::kWrite, &events_);
    ASSERT_TRUE(opened.ok());
    descriptor_ = std::move(*opened);
    channel_ = descriptor_->OpenChannel(*reactor_);
  }

  uint64_t Lba(uint64_t offset_bytes) const { return offset_bytes / GetParam().block_size; }

  IoStatus Run(TestIo& io) { return RunIo(*channel_, io).value_or(IoStatus::kFailed); }
  IoStatus RunRange(IoType type, uint64_t offset_bytes, uint64_t size_bytes, bool fua = false) {
    TestIo io(type, Lba(offset_bytes), 0, GetParam().block_size);
    io.block_count = Lba(size_bytes);
    io.fua = fua;
    return Run(io);
  }

  // Writes bytes that differ from place to place, from a buffer that is `skew` bytes off its
  // alignment.
  void Write(uint64_t offset_bytes, size_t size_bytes, size_t skew, bool fua = false) {
    std::vector<char> buffer(size_bytes + kBlockSize + skew);
    char* data = Align(buffer.data()) + skew;
    for (size_t i = 0; i < size_bytes; ++i) data[i] = Pattern(offset_bytes + i);
    TestIo io(IoType::kWrite, Lba(offset_bytes), 0, GetParam().block_size);
    io.block_count = Lba(size_bytes);
    io.iov = {data, size_bytes};
    io.fua = fua;
    ASSERT_EQ(Run(io), IoStatus::kOk);
  }

  void ExpectPattern(uint64_t offset_bytes, size_t size_bytes, size_t skew) {
    std::vector<char> buffer(size_bytes + kBlockSize + skew);
    char* data = Align(buffer.data()) + skew;
    TestIo io(IoType::kRead, Lba(offset_bytes), 0, GetParam().block_size);
    io.block_count = Lba(size_bytes);
    iovec iovs[] = {{data, size_bytes / 2}, {data + size_bytes / 2, size_bytes - size_bytes / 2}};
    io.iovs = iovs;
    io.iov_count = 2;
    ASSERT_EQ(Run(io), IoStatus::kOk);
    for (size_t i = 0; i < size_bytes; ++i) {
      ASSERT_EQ(data[i], Pattern(offset_bytes + i)) << "at " << offset_bytes + i;
    }
  }

  // What is in the file, seen past the bdev.
  char InFile(uint64_t offset_bytes) {
    char byte = 0;
    EXPECT_EQ(::pread(file_.fd(), &byte, 1, static_cast<off_t>(offset_bytes)), 1);
    return byte;
  }

  static char Pattern(uint64_t offset) { return static_cast<char>(offset * 7 + offset / 509 + 1); }
  static char* Align(char* address) {
    auto number = reinterpret_cast<uintptr_t>(address);
    return address + (kBlockSize - number % kBlockSize) % kBlockSize;
  }

  TempFile file_{kBlocks * kBlockSize};
  bdev::TestEvents events_;
  std::unique_ptr<Reactor> reactor_ = Reactor::ForThisThread({.io_uring = GetParam().io_uring});
  Registry registry_{*reactor_};
  std::unique_ptr<bdev::Descriptor> descriptor_;
  std::unique_ptr<bdev::Channel> channel_;
};

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

std::vector<Case> Cases() {
  std::vector<Case> cases = {{false, 4096}, {false, 512}};
  // Some containers forbid it.
  if (Reactor::ForThisThread({.io_uring = true})->uses_io_uring()) {
    cases.push_back({true, 4096});
    cases.push_back({true, 512});
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Backends, FileBdevTest, testing::ValuesIn(Cases()),
                         [](const testing::TestParamInfo<Case>& param) {
                           return std::string(param.param.io_uring ? "IoUring" : "ThreadPool") +
                                  std::to_string(param.param.block_size);
                         });

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
