// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/errno_or.h"
#include "base/uuid.h"
#include "storage_target/bdev/bdev.h"
#include "storage_target/bdev/registry.h"

namespace sma::storage_target::bdev_file {

/// The SPDK module that a file bdev reports as its own. I/O works in the same way for both.
enum class FileFlavor { kAio, kUring };

struct FileOptions {
  FileFlavor flavor = FileFlavor::kAio;
  std::string name{};
  std::string path{};
  uint32_t block_size = 0;  // 0: that of the device or the file system
  bool read_only = false;
  base::Uuid uuid{};
  // SPDK's options for its own I/O methods, which are reported but have no effect.
  bool fallocate = false;
  bool nowait = false;
};

/// Creates a bdev for a file or block device, with direct I/O where the file supports it. The
/// result is passed to Registry::Register. Errors: EINVAL if the block size is not a power of two,
/// is smaller than 512 or than the device's, or does not divide the file's size; otherwise like
/// OpenFileMedium, which also says how long this may block.
base::ErrnoOr<std::unique_ptr<bdev::Bdev>> MakeFileBdev(const FileOptions& options);

/// Updates the size of the bdev from the file. Errors: ENODEV if there is no such bdev of this
/// flavor; EINVAL if the size is not a multiple of the block size; EBUSY if the file is smaller and
/// the bdev is in use.
int RescanFileBdev(bdev::Registry& registry, const std::string& name, FileFlavor flavor);

/// Returns the module's name: "aio" or "uring".
const char* FileModuleName(FileFlavor flavor);

}  // namespace sma::storage_target::bdev_file
