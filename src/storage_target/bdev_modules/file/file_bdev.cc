// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/file/file_bdev.h"

#include <bit>
#include <cerrno>
#include <memory>
#include <utility>

#include "base/log.h"
#include "storage_target/bdev_modules/file/file_channel.h"
#include "storage_target/bdev_modules/file/file_medium.h"

namespace sma::storage_target::bdev_file {
namespace {

using bdev::Bdev;
using bdev::Channel;
using bdev::IoType;

constexpr uint32_t kMinBlockSize = 512;

class FileBdev : public Bdev {
 public:
  FileBdev(Info info, FileOptions options, FileMedium medium)
      : Bdev(std::move(info)),
        options_(std::move(options)),
        medium_(std::move(medium)),
        locks_(medium_.in_memory ? std::make_unique<BlockLocks>() : nullptr) {}

  std::string_view module() const override { return FileModuleName(options_.flavor); }

  bool Supports(IoType type) const override {
    if (type == IoType::kUnmap) return medium_.punches_holes;
    return type != IoType::kCompare;
  }

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

  int fd() const { return medium_.fd.get(); }

 protected:
  std::unique_ptr<Channel> MakeChannel(Reactor& reactor) override {
    return std::make_unique<FileChannel>(*this, reactor,
                                         FileAccess{.fd = fd(),
                                                    .memory_alignment = info().buffer_alignment,
                                                    .locks = locks_.get(),
                                                    .sync_state = &sync_state_});
  }

 private:
  const FileOptions options_;
  const FileMedium medium_;
  const std::unique_ptr<BlockLocks> locks_;
  SyncState sync_state_;
};

}  // namespace

const char* FileModuleName(FileFlavor flavor) {
  return flavor == FileFlavor::kAio ? "aio" : "uring";
}

base::ErrnoOr<std::unique_ptr<Bdev>> MakeFileBdev(const FileOptions& options) {
  using Result = base::ErrnoOr<std::unique_ptr<Bdev>>;
  auto opened = OpenFileMedium(options.path, options.read_only);
  if (!opened.ok()) return Result::Error(opened.error());
  FileMedium medium = *std::move(opened);

  uint32_t block_size = options.block_size != 0 ? options.block_size : medium.block_size;
  bool sound = block_size >= kMinBlockSize && std::has_single_bit(block_size) &&
               (!medium.is_device || block_size >= medium.block_size);
  if (!sound || medium.size_bytes == 0 || medium.size_bytes % block_size != 0) {
    return Result::Error(EINVAL);
  }

  Bdev::Info info;
  info.name = options.name;
  info.uuid = options.uuid;
  info.product_name = options.flavor == FileFlavor::kAio ? "AIO disk" : "URING bdev";
  info.block_size = block_size;
  info.block_count = medium.size_bytes / block_size;
  info.write_cache = true;
  info.native_fua = true;
  info.read_only = options.read_only;
  info.unmap_reads_zero = medium.punches_holes;
  info.write_zeroes_deallocates = medium.punches_holes;
  info.medium = medium.key;
  info.buffer_alignment = SwitchToDirectIo(medium, block_size);
  if (info.buffer_alignment == 1) {
    spdlog::info("{}: {} is accessed through the page cache", options.name, options.path);
  }
  return Result(std::make_unique<FileBdev>(std::move(info), options, std::move(medium)));
}

int RescanFileBdev(bdev::Registry& registry, const std::string& name, FileFlavor flavor) {
  Bdev* found = registry.Find(name);
  if (found == nullptr || found->module() != FileModuleName(flavor)) return ENODEV;
  uint64_t size_bytes = 0;
  if (int error = GetFileSize(static_cast<FileBdev*>(found)->fd(), &size_bytes); error != 0) {
    return error;
  }
  if (size_bytes % found->block_size() != 0) return EINVAL;
  return registry.Resize(*found, size_bytes / found->block_size());
}

}  // namespace sma::storage_target::bdev_file
