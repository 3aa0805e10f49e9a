// SPDX-License-Identifier: Apache-2.0

#include "storage_target/virtio/memory_file.h"

#include <linux/magic.h>

namespace sma::storage_target::virtio {
namespace {

// From the kernel's sources, because linux/magic.h lacks them.
constexpr int64_t kFuse = 0x65735546;
constexpr int64_t kCifs = 0xff534d42;
constexpr int64_t kSmb2 = 0xfe534d42;
constexpr int64_t kSmb = 0x517b;
constexpr int64_t kCeph = 0x00c36400;
constexpr int64_t kSecretMemory = 0x5345434d;
constexpr int64_t kDmaBuffer = 0x444d4142;
constexpr int64_t kZfs = 0x2fc12fc1;
constexpr int64_t kBcachefs = 0xca451a4e;

// On some architectures f_type is signed.
uint32_t Magic(int64_t file_system) { return static_cast<uint32_t>(file_system); }

}  // namespace

bool MayHoldGuestMemory(int64_t file_system) {
  switch (Magic(file_system)) {
    case TMPFS_MAGIC:  // includes memfd and device nodes
    case HUGETLBFS_MAGIC:
    case RAMFS_MAGIC:
    case kSecretMemory:
    case kDmaBuffer:
    case EXT4_SUPER_MAGIC:
    case XFS_SUPER_MAGIC:
    case BTRFS_SUPER_MAGIC:
    case F2FS_SUPER_MAGIC:
    case kZfs:
    case kBcachefs:
      return true;
    default:
      return false;
  }
}

std::string_view FileSystemName(int64_t file_system) {
  switch (Magic(file_system)) {
    case kFuse:
      return "FUSE";
    case NFS_SUPER_MAGIC:
      return "NFS";
    case kCifs:
    case kSmb2:
    case kSmb:
      return "CIFS";
    case V9FS_MAGIC:
      return "9p";
    case kCeph:
      return "Ceph";
    case OVERLAYFS_SUPER_MAGIC:
      return "an overlay";
    default:
      return "another file system";
  }
}

}  // namespace sma::storage_target::virtio
