// SPDX-License-Identifier: Apache-2.0

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/loop.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "storage_target/bdev_modules/file/testing/file_fixture.h"

namespace sma::storage_target::bdev_file {
namespace {

using bdev::IoStatus;
using bdev::IoType;
using bdev::Registry;
using bdev::TestIo;
using std::chrono::seconds;

using FileMediumTest = FileBdevTest;

TEST_P(FileMediumTest, WriteZeroesDeallocatesIfRequested) {
  Open();
  ASSERT_TRUE(channel_->bdev().info().write_zeroes_deallocates);
  Write(0, 2 << 20, 0);
  ASSERT_EQ(RunRange(IoType::kFlush, 0, 0), IoStatus::kOk);
  const uint64_t before = file_.allocated_bytes();
  EXPECT_EQ(RunRange(IoType::kWriteZeroes, 0, 1 << 20), IoStatus::kOk);
  EXPECT_EQ(file_.allocated_bytes(), before);
  TestIo zeroes(IoType::kWriteZeroes, Lba(1 << 20), 0, GetParam().block_size);
  zeroes.block_count = Lba(1 << 20);
  zeroes.deallocate = true;
  EXPECT_EQ(Run(zeroes), IoStatus::kOk);
  EXPECT_LE(file_.allocated_bytes(), before - (1 << 20));
  for (uint64_t at : {0, 1 << 20, (2 << 20) - 1}) EXPECT_EQ(InFile(at), 0) << at;
}

INSTANTIATE_TEST_SUITE_P(Backends, FileMediumTest, testing::ValuesIn(Cases()), CaseName);

// A file system without holes (ramfs) that is visible only to this process.
class RamFs {
 public:
  RamFs() {
    if (::mkdtemp(path_.data()) == nullptr) return;
    const int flags = CLONE_NEWNS | (::geteuid() == 0 ? 0 : CLONE_NEWUSER);
    mounted_ = ::unshare(flags) == 0 && ::mount("", "/", nullptr, MS_REC | MS_PRIVATE, "") == 0 &&
               ::mount("none", path_.c_str(), "ramfs", 0, "mode=0700") == 0;
  }
  ~RamFs() {
    if (mounted_) ::umount(path_.c_str());
    ::rmdir(path_.c_str());
  }
  RamFs(const RamFs&) = delete;
  RamFs& operator=(const RamFs&) = delete;
  bool mounted() const { return mounted_; }
  const std::string& path() const { return path_; }

 private:
  std::string path_ = testing::TempDir() + "/file_bdev_XXXXXX";
  bool mounted_ = false;
};

TEST(FileWithoutHolesTest, PromisesNoDeallocationAndStillWritesZeroes) {
  RamFs ram_fs;
  if (!ram_fs.mounted()) GTEST_SKIP() << "no file system can be mounted here";
  TempFile file(1 << 20, ram_fs.path());
  const std::string data(1 << 20, 'x');
  ASSERT_EQ(::pwrite(file.fd(), data.data(), data.size(), 0), 1 << 20);
  auto made = MakeFileBdev({.name = "F", .path = file.path(), .block_size = kBlockSize});
  ASSERT_TRUE(made.ok());
  EXPECT_FALSE((*made)->info().unmap_reads_zero);
  EXPECT_FALSE((*made)->info().write_zeroes_deallocates);
  EXPECT_FALSE((*made)->Supports(IoType::kUnmap));

  auto reactor = Reactor::ForThisThread({});
  Registry registry(*reactor);
  bdev::TestEvents events;
  ASSERT_EQ(registry.Register(std::move(*made)), 0);
  auto descriptor = std::move(*registry.Open("F", Registry::Access::kWrite, &events));
  auto channel = descriptor->OpenChannel(*reactor);
  TestIo unmap(IoType::kUnmap, 0, 1, kBlockSize);
  EXPECT_EQ(RunIo(*channel, unmap), IoStatus::kOk);
  TestIo zeroes(IoType::kWriteZeroes, 1, 1, kBlockSize);
  zeroes.deallocate = true;
  EXPECT_EQ(RunIo(*channel, zeroes), IoStatus::kOk);
  TestIo read(IoType::kRead, 0, 3, kBlockSize);
  EXPECT_EQ(RunIo(*channel, read), IoStatus::kOk);
  EXPECT_EQ(read.data[0], std::byte{'x'});
  EXPECT_EQ(read.data[kBlockSize], std::byte{0});
  EXPECT_EQ(read.data[2 * kBlockSize - 1], std::byte{0});
  EXPECT_EQ(read.data[2 * kBlockSize], std::byte{'x'});
}

int MakeError(const std::string& path, bool read_only = false) {
  return MakeFileBdev({.name = "X", .path = path, .block_size = 512, .read_only = read_only})
      .error();
}

TEST(FileClaimTest, AFileHasOneBdevIndependentOfItsName) {
  TempFile file(1 << 20);
  const std::string hard_link = file.path() + ".hard";
  const std::string soft_link = file.path() + ".soft";
  ASSERT_EQ(::link(file.path().c_str(), hard_link.c_str()), 0);
  ASSERT_EQ(::symlink(file.path().c_str(), soft_link.c_str()), 0);
  {
    auto first = MakeFileBdev({.name = "F", .path = file.path(), .block_size = 512});
    ASSERT_TRUE(first.ok());
    for (const std::string& path : {file.path(), hard_link, soft_link}) {
      EXPECT_EQ(MakeError(path), EBUSY) << path;
      EXPECT_EQ(MakeError(path, true), EBUSY) << path;
    }
  }
  EXPECT_EQ(MakeError(hard_link), 0);
  {
    auto first =
        MakeFileBdev({.name = "F", .path = file.path(), .block_size = 512, .read_only = true});
    ASSERT_TRUE(first.ok());
    auto second =
        MakeFileBdev({.name = "G", .path = soft_link, .block_size = 512, .read_only = true});
    ASSERT_TRUE(second.ok());
    EXPECT_EQ((*first)->info().medium, (*second)->info().medium);
    EXPECT_EQ(MakeError(file.path()), EBUSY);
  }
  ::unlink(hard_link.c_str());
  ::unlink(soft_link.c_str());
}

TEST(FileClaimTest, AFileOfAnotherProcessIsRefused) {
  TempFile file(1 << 20);
  struct flock lock {};
  lock.l_type = F_WRLCK;
  ASSERT_EQ(::fcntl(file.fd(), F_OFD_SETLK, &lock), 0);
  EXPECT_EQ(MakeError(file.path()), EBUSY);
  lock.l_type = F_UNLCK;
  ASSERT_EQ(::fcntl(file.fd(), F_OFD_SETLK, &lock), 0);
  EXPECT_EQ(MakeError(file.path()), 0);
}

// A private block device: a file behind the kernel's loop driver.
class LoopDevice {
 public:
  explicit LoopDevice(const TempFile& file) {
    base::UniqueFd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
    const int number = control ? ::ioctl(control.get(), LOOP_CTL_GET_FREE) : -1;
    if (number < 0) return;
    path_ = "/dev/loop" + std::to_string(number);
    fd_.Reset(::open(path_.c_str(), O_RDWR | O_CLOEXEC));
    attached_ = fd_ && ::ioctl(fd_.get(), LOOP_SET_FD, file.fd()) == 0;
  }
  ~LoopDevice() {
    if (attached_) ::ioctl(fd_.get(), LOOP_CLR_FD);
  }
  LoopDevice(const LoopDevice&) = delete;
  LoopDevice& operator=(const LoopDevice&) = delete;
  bool attached() const { return attached_; }
  const std::string& path() const { return path_; }
  dev_t number() const {
    struct stat status {};
    return ::fstat(fd_.get(), &status) == 0 ? status.st_rdev : 0;
  }

 private:
  std::string path_;
  base::UniqueFd fd_;
  bool attached_ = false;
};

TEST(FileClaimTest, ABlockDeviceHasOneBdevIndependentOfItsNode) {
  TempFile file(1 << 20);
  LoopDevice device(file);
  if (!device.attached()) GTEST_SKIP() << "no loop device can be made here";
  const std::string node = file.path() + ".node";
  ASSERT_EQ(::mknod(node.c_str(), S_IFBLK | 0600, device.number()), 0);
  {
    auto first = MakeFileBdev({.name = "F", .path = device.path()});
    ASSERT_TRUE(first.ok());
    EXPECT_EQ((*first)->info().medium, "blkdev:" + std::to_string(major(device.number())) + ":" +
                                           std::to_string(minor(device.number())));
    EXPECT_EQ(MakeError(device.path()), EBUSY);
    EXPECT_EQ(MakeError(node), EBUSY);
    // The kernel does not distinguish read-only opens, but the registry does.
    auto reactor = Reactor::ForThisThread({});
    Registry registry(*reactor);
    ASSERT_EQ(registry.Register(std::move(*first)), 0);
    auto reader = MakeFileBdev({.name = "G", .path = node, .read_only = true});
    ASSERT_TRUE(reader.ok());
    EXPECT_EQ(registry.Register(std::move(*reader)), EBUSY);
  }
  EXPECT_EQ(MakeError(node), 0);
  ::unlink(node.c_str());
}

}  // namespace
}  // namespace sma::storage_target::bdev_file
