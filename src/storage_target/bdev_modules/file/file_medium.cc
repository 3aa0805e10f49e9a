// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/file/file_medium.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/stat.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <fstream>
#include <limits>
#include <thread>
#include <utility>

#include "base/descriptor_limit.h"
#include "base/log.h"

namespace sma::storage_target::bdev_file {
namespace {

// Used where the alignment for direct I/O is unknown.
constexpr uint32_t kSafeAlignment = 4096;
// The pause before a lock is tried again. The kernel closes the files of a killed process shortly
// after the process has ended.
constexpr auto kLockPause = std::chrono::milliseconds(5);
constexpr int kLockTries = 20;

std::string NumberOf(dev_t device) {
  return std::to_string(major(device)) + ":" + std::to_string(minor(device));
}

// Returns EINVAL if the file is neither a regular file nor a block device.
int Describe(const struct stat& status, FileMedium& medium) {
  if (S_ISREG(status.st_mode)) {
    medium.block_size = static_cast<uint32_t>(status.st_blksize);
    medium.size_bytes = static_cast<uint64_t>(status.st_size);
    medium.key = "file:" + NumberOf(status.st_dev) + ":" + std::to_string(status.st_ino);
    return 0;
  }
  if (!S_ISBLK(status.st_mode)) return EINVAL;
  medium.is_device = true;
  medium.key = "blkdev:" + NumberOf(status.st_rdev);
  int block_size = 0;
  if (::ioctl(medium.fd.get(), BLKSSZGET, &block_size) != 0 ||
      ::ioctl(medium.fd.get(), BLKGETSIZE64, &medium.size_bytes) != 0) {
    return errno;
  }
  medium.block_size = static_cast<uint32_t>(block_size);
  return 0;
}

int LockFile(const std::string& path, int fd, bool read_only) {
  struct flock lock {};
  lock.l_type = read_only ? F_RDLCK : F_WRLCK;
  lock.l_whence = SEEK_SET;
  for (int left = kLockTries; ::fcntl(fd, F_OFD_SETLK, &lock) != 0; --left) {
    if (errno != EAGAIN && errno != EACCES) {
      spdlog::warn(
          "{}: the file system does not support locks, so other processes are not excluded", path);
      return 0;
    }
    if (left == 0) return EBUSY;
    std::this_thread::sleep_for(kLockPause);
  }
  return 0;
}

// Returns true if holes can be punched. A block device supports it if the largest range that it can
// zero by itself is not 0; the kernel refuses to punch holes in others. For a file, this tries to
// punch a hole beyond its end, which changes nothing.
bool PunchesHoles(const FileMedium& medium, const struct stat& status) {
  if (medium.is_device) {
    const std::string queue = "/sys/dev/block/" + NumberOf(status.st_rdev) + "/queue/";
    uint64_t max_bytes = 0;
    // The second attribute has existed since Linux 6.17.
    std::ifstream(queue + "write_zeroes_max_bytes") >> max_bytes;
    std::ifstream with_unmap(queue + "write_zeroes_unmap_max_bytes");
    if (with_unmap) with_unmap >> max_bytes;
    return max_bytes != 0;
  }
  constexpr off_t kProbeBytes = 1 << 20;
  constexpr auto kMaxOffset = std::numeric_limits<off_t>::max() / 2;
  const auto end = static_cast<off_t>(medium.size_bytes);
  if (end > kMaxOffset) return false;
  return ::fallocate(medium.fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                     (end / kProbeBytes + 2) * kProbeBytes, kProbeBytes) == 0;
}

bool IsInMemory(int fd) {
  struct statfs status {};
  if (::fstatfs(fd, &status) != 0) return false;
  return status.f_type == TMPFS_MAGIC || status.f_type == RAMFS_MAGIC;
}

struct DirectAlignment {
  uint32_t memory = 0;  // 0: no direct I/O
  uint32_t offset = 0;
};

// Calls statx by its number, because the C library's header lacks the fields of STATX_DIOALIGN
// (Linux 6.1).
DirectAlignment GetDirectAlignment(const FileMedium& medium) {
  struct statx status {};
  long result = ::syscall(SYS_statx, medium.fd.get(), "", AT_EMPTY_PATH, STATX_DIOALIGN, &status);
  if (result == 0 && (status.stx_mask & STATX_DIOALIGN) != 0) {
    return {status.stx_dio_mem_align, status.stx_dio_offset_align};
  }
  if (medium.is_device) return {medium.block_size, medium.block_size};
  return {kSafeAlignment, kSafeAlignment};
}

}  // namespace

base::ErrnoOr<FileMedium> OpenFileMedium(const std::string& path, bool read_only) {
  using Result = base::ErrnoOr<FileMedium>;
  // O_EXCL without O_CREAT is defined only for block devices.
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return Result::Error(errno);
  const bool exclusive = S_ISBLK(status.st_mode) && !read_only;
  FileMedium medium;
  medium.fd.Reset(::open(path.c_str(), (read_only ? O_RDONLY : O_RDWR) | (exclusive ? O_EXCL : 0) |
                                           O_CLOEXEC | O_NONBLOCK));
  if (base::IsReservedForJsonRpc(medium.fd.get())) return Result::Error(EMFILE);
  if (!medium.fd || ::fstat(medium.fd.get(), &status) != 0) return Result::Error(errno);
  if (int error = Describe(status, medium); error != 0) return Result::Error(error);
  if (!medium.is_device) {
    int error = LockFile(path, medium.fd.get(), read_only);
    if (error != 0) return Result::Error(error);
    medium.in_memory = IsInMemory(medium.fd.get());
  }
  medium.punches_holes = !read_only && PunchesHoles(medium, status);
  return medium;
}

int GetFileSize(int fd, uint64_t* size_bytes) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return errno;
  if (S_ISBLK(status.st_mode)) return ::ioctl(fd, BLKGETSIZE64, size_bytes) == 0 ? 0 : errno;
  *size_bytes = static_cast<uint64_t>(status.st_size);
  return 0;
}

uint32_t SwitchToDirectIo(const FileMedium& medium, uint32_t block_size) {
  const int fd = medium.fd.get();
  int flags = ::fcntl(fd, F_GETFL) & ~O_NONBLOCK;
  DirectAlignment alignment = GetDirectAlignment(medium);
  if (!medium.in_memory && alignment.memory != 0 && alignment.offset != 0 &&
      block_size % alignment.offset == 0 && ::fcntl(fd, F_SETFL, flags | O_DIRECT) == 0) {
    return alignment.memory;
  }
  ::fcntl(fd, F_SETFL, flags);
  return 1;
}

}  // namespace sma::storage_target::bdev_file
