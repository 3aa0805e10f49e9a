// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "storage_target/bdev/testing/test_bdev.h"
#include "storage_target/bdev_modules/file/file_bdev.h"

// For tests only: a file bdev on a temporary file, with each implementation of file operations.

namespace sma::storage_target::bdev_file {

inline constexpr uint32_t kBlockSize = 4096;
inline constexpr uint64_t kBlocks = 2048;

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
  uint32_t block_size;  // 512 uses the page cache if direct I/O requires 4096
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
    using Access = bdev::Registry::Access;
    auto opened = registry_.Open("F", options.read_only ? Access::kRead : Access::kWrite, &events_);
    ASSERT_TRUE(opened.ok());
    descriptor_ = std::move(*opened);
    channel_ = descriptor_->OpenChannel(*reactor_);
  }

  uint64_t Lba(uint64_t offset_bytes) const { return offset_bytes / GetParam().block_size; }

  bdev::IoStatus Run(bdev::TestIo& io) {
    return RunIo(*channel_, io).value_or(bdev::IoStatus::kFailed);
  }
  bdev::IoStatus RunRange(bdev::IoType type, uint64_t offset_bytes, uint64_t size_bytes,
                          bool fua = false) {
    bdev::TestIo io(type, Lba(offset_bytes), 0, GetParam().block_size);
    io.block_count = Lba(size_bytes);
    io.fua = fua;
    return Run(io);
  }

  // Writes bytes that depend on their offset, from a buffer that is misaligned by `skew` bytes.
  void Write(uint64_t offset_bytes, size_t size_bytes, size_t skew, bool fua = false) {
    std::vector<char> buffer(size_bytes + kBlockSize + skew);
    char* data = Align(buffer.data()) + skew;
    for (size_t i = 0; i < size_bytes; ++i) data[i] = Pattern(offset_bytes + i);
    bdev::TestIo io(bdev::IoType::kWrite, Lba(offset_bytes), 0, GetParam().block_size);
    io.block_count = Lba(size_bytes);
    io.iov = {data, size_bytes};
    io.fua = fua;
    ASSERT_EQ(Run(io), bdev::IoStatus::kOk);
  }

  void ExpectPattern(uint64_t offset_bytes, size_t size_bytes, size_t skew) {
    std::vector<char> buffer(size_bytes + kBlockSize + skew);
    char* data = Align(buffer.data()) + skew;
    bdev::TestIo io(bdev::IoType::kRead, Lba(offset_bytes), 0, GetParam().block_size);
    io.block_count = Lba(size_bytes);
    iovec iovs[] = {{data, size_bytes / 2}, {data + size_bytes / 2, size_bytes - size_bytes / 2}};
    io.iovs = iovs;
    io.iov_count = 2;
    ASSERT_EQ(Run(io), bdev::IoStatus::kOk);
    for (size_t i = 0; i < size_bytes; ++i) {
      ASSERT_EQ(data[i], Pattern(offset_bytes + i)) << "at " << offset_bytes + i;
    }
  }

  // Reads a byte of the file directly, not through the bdev.
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
  bdev::Registry registry_{*reactor_};
  std::unique_ptr<bdev::Descriptor> descriptor_;
  std::unique_ptr<bdev::Channel> channel_;
};

inline std::vector<Case> Cases() {
  std::vector<Case> cases = {{false, 4096}, {false, 512}};
  // Some containers forbid io_uring.
  if (Reactor::ForThisThread({.io_uring = true})->uses_io_uring()) {
    cases.push_back({true, 4096});
    cases.push_back({true, 512});
  }
  return cases;
}

inline std::string CaseName(const testing::TestParamInfo<Case>& param) {
  return std::string(param.param.io_uring ? "IoUring" : "ThreadPool") +
         std::to_string(param.param.block_size);
}

}  // namespace sma::storage_target::bdev_file
