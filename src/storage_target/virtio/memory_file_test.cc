// SPDX-License-Identifier: Apache-2.0

#include "storage_target/virtio/memory_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/magic.h>

#include <cerrno>

#include "base/unique_fd.h"
#include "storage_target/virtio/guest_memory.h"

namespace sma::storage_target::virtio {
namespace {

TEST(MemoryFileTest, AllowsOnlyMemoryAndLocalDisks) {
  for (uint32_t magic :
       {TMPFS_MAGIC + 0U, HUGETLBFS_MAGIC, EXT4_SUPER_MAGIC + 0U, XFS_SUPER_MAGIC + 0U})
    EXPECT_TRUE(MayHoldGuestMemory(magic)) << magic;
  EXPECT_TRUE(MayHoldGuestMemory(static_cast<int32_t>(BTRFS_SUPER_MAGIC)));
  for (int64_t magic : {int64_t{NFS_SUPER_MAGIC}, int64_t{0xff534d42}, int64_t{0xfe534d42},
                        int64_t{V9FS_MAGIC}, int64_t{0x65735546}, int64_t{0x00c36400},
                        int64_t{OVERLAYFS_SUPER_MAGIC}, int64_t{PROC_SUPER_MAGIC}, int64_t{0}})
    EXPECT_FALSE(MayHoldGuestMemory(magic)) << magic;
  EXPECT_EQ(FileSystemName(NFS_SUPER_MAGIC), "NFS");
  EXPECT_EQ(FileSystemName(static_cast<int32_t>(0xff534d42)), "CIFS");
  EXPECT_EQ(FileSystemName(1), "another file system");
}

TEST(MemoryFileTest, RefusesFilesOfOtherFileSystems) {
  const base::UniqueFd file(::open("/proc/self/status", O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(file);
  EXPECT_EQ(SharedMapping::Map(file.get(), 0, 4096, SharedMapping::Access::kReadOnly).error(),
            EPERM);
}

}  // namespace
}  // namespace sma::storage_target::virtio
