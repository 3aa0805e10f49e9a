#pragma once

#include <cstdint>
#include <string>

#include "base/errno_or.h"
#include "base/unique_fd.h"

namespace sma::target::bdev_modules {

/// An open file or block device, kept from others, and what is true of it.
struct FileMedium {
  base::UniqueFd fd;
  bool is_device = false;
  uint32_t block_size = 0;  // bytes; the device's, or the file system's preferred one
  uint64_t size_bytes = 0;
  /// As Bdev::Info::medium: by device and inode, or by the block device's number, whatever path,
  /// link or node it was opened by.
  std::string key{};
  /// A range can be deallocated, and reads as zeroes then.
  bool punches_holes = false;
  /// Its file system keeps files in memory.
  bool in_memory = false;
};

/// Opens `path`. To write, it is taken from every other process as far as Linux lets it: a block
/// device by O_EXCL (also mounted ones and those of device-mapper are refused), a file by a lock of
/// the whole of it (F_OFD_SETLK, which QEMU's image locks conflict with). Read-only opens share the
/// file among each other. A file system that has no locks is used without.
///
/// EBUSY: another process, or another open medium of this one, has it; EINVAL: neither file nor
/// block device; else what open(2) says. May block for as long as open takes, and a tenth of a
/// second more while another process that has the lock may be ending.
base::ErrnoOr<FileMedium> OpenFileMedium(const std::string& path, bool read_only);

/// The size now; 0 or an errno value.
int GetFileSize(int fd, uint64_t* size_bytes);

/// Switches to direct I/O if that can be done in blocks of this size (bytes); returns the alignment
/// that buffers need then, or 1. In any case takes O_NONBLOCK away, with which io_uring would
/// answer EAGAIN instead of waiting.
uint32_t SwitchToDirectIo(const FileMedium& medium, uint32_t block_size);

}  // namespace sma::target::bdev_modules
