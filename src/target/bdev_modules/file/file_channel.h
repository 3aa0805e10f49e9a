#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>

#include "target/bdev/buffer_pool.h"
#include "target/bdev/channel.h"
#include "target/bdev/io_queue.h"
#include "target/reactor/work.h"

namespace sma::target::bdev_modules {

/// What an open file wants of I/O on it.
struct FileAccess {
  int fd = -1;
  uint32_t memory_alignment = 1;  // bytes; of addresses and lengths of buffers
  bool in_memory = false;         // its file system has no medium
};

/// I/O on a file through the reactor's file operations. A buffer that is not aligned as the file
/// wants it is copied through one of the channel's own, in pieces.
class FileChannel : public bdev::Channel {
 public:
  FileChannel(bdev::Bdev& bdev, Reactor& reactor, const FileAccess& access);
  ~FileChannel() override;

 private:
  struct Task;  // in Io::scratch

  void DoSubmit(bdev::Io& io) override;
  bool DoAbort(bdev::Io& io) override;

  void SubmitWhole(Task& task);
  void CopyWhole(Task& task);
  void SubmitRange(Task& task, FileOp::Kind kind);
  void StartPieces(Task& task);
  void SubmitPiece(Task& task);
  void Sync(Task& task);
  static void OnDone(FileOp& op, int64_t result);
  void OnWholeDone(Task& task, int64_t result);
  void OnPieceDone(Task& task, int64_t result);
  void OnRangeDone(Task& task, int64_t result);
  void Finish(Task& task, int64_t result);
  bool IsAligned(const bdev::Io& io) const;

  void GiveBuffer(std::byte* buffer);

  const FileAccess access_;
  bdev::BufferPool buffers_;
  bdev::IoQueue waiting_;  // for a buffer
};

}  // namespace sma::target::bdev_modules
