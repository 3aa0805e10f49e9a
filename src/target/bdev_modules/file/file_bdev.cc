#include "target/bdev_modules/file/file_bdev.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/stat.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/log.h"
#include "base/unique_fd.h"
#include "target/bdev_modules/file/file_channel.h"

namespace sma::target::bdev_modules {
namespace {

using bdev::Bdev;
using bdev::Channel;
using bdev::IoType;

constexpr uint32_t kMinBlockSize = 512;
// Where nobody says how direct I/O wants to be aligned.
constexpr uint32_t kSafeAlignment = 4096;

struct FileKind {
  bool is_device = false;
  uint32_t block_size = 0;  // the device's, or the file system's preferred one
  uint64_t size_bytes = 0;
};

/// EINVAL for what is neither file nor block device.
int GetKind(int fd, FileKind* kind) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return errno;
  if (S_ISREG(status.st_mode)) {
    kind->block_size = static_cast<uint32_t>(status.st_blksize);
    kind->size_bytes = static_cast<uint64_t>(status.st_size);
    return 0;
  }
  if (!S_ISBLK(status.st_mode)) return EINVAL;
  kind->is_device = true;
  int block_size = 0;
  if (::ioctl(fd, BLKSSZGET, &block_size) != 0 ||
      ::ioctl(fd, BLKGETSIZE64, &kind->size_bytes) != 0) {
    return errno;
  }
  kind->block_size = static_cast<uint32_t>(block_size);
  return 0;
}

struct DirectAlignment {
  uint32_t memory = 0;  // 0: no direct I/O
  uint32_t offset = 0;
};

// statx is called by number: the C library's header lacks the fields of STATX_DIOALIGN (Linux 6.1).
DirectAlignment GetDirectAlignment(int fd, const FileKind& kind) {
  struct statx status {};
  long result = ::syscall(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status);
  if (result == 0 && (status.stx_mask & STATX_DIOALIGN) != 0) {
    return {status.stx_dio_mem_align, status.stx_dio_offset_align};
  }
  if (kind.is_device) return {kind.block_size, kind.block_size};
  return {kSafeAlignment, kSafeAlignment};
}

/// Switches `fd` to direct I/O if that can be done in blocks of this size; returns the alignment
/// that buffers need then, or 1. In any case takes O_NONBLOCK away, with which io_uring would
/// answer EAGAIN instead of waiting.
uint32_t SwitchToDirect(int fd, const FileKind& kind, uint32_t block_size) {
  int flags = ::fcntl(fd, F_GETFL) & ~O_NONBLOCK;
  DirectAlignment alignment = GetDirectAlignment(fd, kind);
  if (alignment.memory != 0 && alignment.offset != 0 && block_size % alignment.offset == 0 &&
      ::fcntl(fd, F_SETFL, flags | O_DIRECT) == 0) {
    return alignment.memory;
  }
  ::fcntl(fd, F_SETFL, flags);
  return 1;
}

bool IsInMemory(int fd) {
  struct statfs status {};
  if (::fstatfs(fd, &status) != 0) return false;
  return status.f_type == TMPFS_MAGIC || status.f_type == RAMFS_MAGIC;
}

class FileBdev : public Bdev {
 public:
  FileBdev(Info info, FileOptions options, base::UniqueFd fd)
      : Bdev(std::move(info)),
        options_(std::move(options)),
        fd_(std::move(fd)),
        in_memory_(IsInMemory(fd_.get())) {}

  std::string_view module() const override { return FileModuleName(options_.flavor); }

  bool Supports(IoType type) const override { return type != IoType::kCompare; }

  bdev::Object DriverSpecific() const override {
    if (options_.flavor == FileFlavor::kUring) {
      return {{"uring", bdev::Object{{"filename", options_.path}}}};
    }
    return {{"aio", bdev::Object{{"filename", options_.path},
                                 {"block_size_override", options_.block_size != 0},
                                 {"readonly", options_.read_only},
                                 {"fallocate", options_.fallocate},
                                 {"nowait", options_.nowait}}}};
  }

  void SaveConfig(std::vector<bdev::ConfigCall>& calls) const override {
    bdev::Object params = {{"name", name()},
                           {"filename", options_.path},
                           {"block_size", block_size()},
                           {"uuid", info().uuid.ToString()}};
    if (options_.flavor == FileFlavor::kAio) {
      params.emplace_back("readonly", options_.read_only);
      params.emplace_back("fallocate", options_.fallocate);
      calls.push_back({"bdev_aio_create", std::move(params)});
    } else {
      calls.push_back({"bdev_uring_create", std::move(params)});
    }
  }

  int fd() const { return fd_.get(); }

 protected:
  std::unique_ptr<Channel> MakeChannel(Reactor& reactor) override {
    return std::make_unique<FileChannel>(
        *this, reactor,
        FileAccess{
            .fd = fd_.get(), .memory_alignment = info().buffer_alignment, .in_memory = in_memory_});
  }

 private:
  const FileOptions options_;
  const base::UniqueFd fd_;
  const bool in_memory_;
};

}  // namespace

const char* FileModuleName(FileFlavor flavor) {
  return flavor == FileFlavor::kAio ? "aio" : "uring";
}

base::ErrnoOr<std::unique_ptr<Bdev>> MakeFileBdev(const FileOptions& options) {
  using Result = base::ErrnoOr<std::unique_ptr<Bdev>>;
  int flags = (options.read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK;
  base::UniqueFd fd(::open(options.path.c_str(), flags));
  if (!fd.valid()) return Result::Error(errno);
  FileKind kind;
  if (int error = GetKind(fd.get(), &kind); error != 0) return Result::Error(error);

  uint32_t block_size = options.block_size != 0 ? options.block_size : kind.block_size;
  bool sound = block_size >= kMinBlockSize && std::has_single_bit(block_size) &&
               (!kind.is_device || block_size >= kind.block_size);
  if (!sound || kind.size_bytes == 0 || kind.size_bytes % block_size != 0) {
    return Result::Error(EINVAL);
  }

  Bdev::Info info;
  info.name = options.name;
  info.uuid = options.uuid;
  info.product_name = options.flavor == FileFlavor::kAio ? "AIO disk" : "URING bdev";
  info.block_size = block_size;
  info.block_count = kind.size_bytes / block_size;
  info.write_cache = true;
  info.native_fua = true;
  info.read_only = options.read_only;
  info.unmap_reads_zero = !kind.is_device;
  info.buffer_alignment = SwitchToDirect(fd.get(), kind, block_size);
  if (info.buffer_alignment == 1) {
    spdlog::info("{}: {} goes through the page cache", options.name, options.path);
  }
  return Result(std::make_unique<FileBdev>(std::move(info), options, std::move(fd)));
}

int RescanFileBdev(bdev::Registry& registry, const std::string& name, FileFlavor flavor) {
  Bdev* found = registry.Find(name);
  if (found == nullptr || found->module() != FileModuleName(flavor)) return ENODEV;
  FileKind kind;
  if (int error = GetKind(static_cast<FileBdev*>(found)->fd(), &kind); error != 0) return error;
  if (kind.size_bytes % found->block_size() != 0) return EINVAL;
  return registry.Resize(*found, kind.size_bytes / found->block_size());
}

}  // namespace sma::target::bdev_modules
