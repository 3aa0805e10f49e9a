#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/errno_or.h"
#include "base/uuid.h"
#include "target/bdev/bdev.h"
#include "target/bdev/registry.h"

namespace sma::target::bdev_modules {

/// As what a file bdev shows itself: SPDK has two modules for files. The I/O is the same.
enum class FileFlavor { kAio, kUring };

struct FileOptions {
  FileFlavor flavor = FileFlavor::kAio;
  std::string name{};
  std::string path{};
  uint32_t block_size = 0;  // 0: the device's own, or for a file the file system's
  bool read_only = false;
  base::Uuid uuid{};
  // SPDK's options for its own way of doing I/O: shown again, without effect.
  bool fallocate = false;
  bool nowait = false;
};

/// A disk in a file or on a block device, read and written past the page cache where the file
/// allows it. For Registry::Register. EINVAL: the block size is no power of two, less than 512 or
/// than the device's, or the file's size is no multiple of it; else, and how long it may block, as
/// OpenFileMedium.
base::ErrnoOr<std::unique_ptr<bdev::Bdev>> MakeFileBdev(const FileOptions& options);

/// Looks at the size of the file again. ENODEV: no such bdev of this flavor; EINVAL: not a multiple
/// of the block size; EBUSY: smaller, and in use.
int RescanFileBdev(bdev::Registry& registry, const std::string& name, FileFlavor flavor);

/// The module's name by flavor: "aio" or "uring".
const char* FileModuleName(FileFlavor flavor);

}  // namespace sma::target::bdev_modules
