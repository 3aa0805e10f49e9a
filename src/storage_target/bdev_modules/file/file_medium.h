// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <string>

#include "base/errno_or.h"
#include "base/unique_fd.h"

namespace sma::storage_target::bdev_file {

/// An open file or block device that is protected from use by other processes, and its properties.
struct FileMedium {
  base::UniqueFd fd;
  bool is_device = false;
  uint32_t block_size = 0;  // in bytes; the device's, or the file system's preferred one
  uint64_t size_bytes = 0;
  /// The key for Bdev::Info::medium: the device and inode, or the number of the block device,
  /// regardless of the path, link or node that was opened.
  std::string key{};
  /// True if a range can be deallocated and then reads as zeroes.
  bool punches_holes = false;
  /// True if the file system keeps files in memory.
  bool in_memory = false;
};

/// Opens `path`. Opening for writing excludes every other process as far as Linux permits: a block
/// device with O_EXCL (which also refuses devices that are mounted or used by device-mapper), and a
/// file with a lock on the whole file (F_OFD_SETLK, which conflicts with QEMU's image locks).
/// Read-only opens share the file with each other. Files on a file system without locks are opened
/// without a lock.
///
/// Errors: EBUSY if another process, or another open medium of this one, has the file; EINVAL if
/// it is neither a file nor a block device; EMFILE if only the descriptors for JSON-RPC connections
/// are left (base::IsReservedForJsonRpc); otherwise the errno of open(2). May block for as long
/// as open does, and for a tenth of a second more while another process holds the lock, because
/// that process may be ending.
base::ErrnoOr<FileMedium> OpenFileMedium(const std::string& path, bool read_only);

/// Sets `*size_bytes` to the current size. Returns 0 or an errno value.
int GetFileSize(int fd, uint64_t* size_bytes);

/// Switches to direct I/O if the file supports it with this block size (in bytes) and is not in
/// memory. Returns the alignment that buffers then need, otherwise 1. Always clears O_NONBLOCK,
/// with which io_uring would return EAGAIN instead of waiting.
uint32_t SwitchToDirectIo(const FileMedium& medium, uint32_t block_size);

}  // namespace sma::storage_target::bdev_file
