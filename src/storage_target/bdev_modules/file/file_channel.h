// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <sys/uio.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "storage_target/bdev/buffer_pool.h"
#include "storage_target/bdev/channel.h"
#include "storage_target/bdev/io_queue.h"
#include "storage_target/bdev/turn.h"
#include "storage_target/bdev_modules/file/block_locks.h"
#include "storage_target/reactor/work.h"

namespace sma::storage_target::bdev_file {

/// Whether a sync of a file has failed, in any channel. Linux drops the data that it could not
/// write and reports that once: the next fdatasync would succeed although acknowledged writes are
/// lost. Thread-safe.
class SyncState {
 public:
  bool failed() const { return failed_.load(std::memory_order_relaxed); }
  /// Returns true if this is the first failure.
  bool Fail() { return !failed_.exchange(true, std::memory_order_relaxed); }

 private:
  std::atomic<bool> failed_{false};
};

/// The parameters of I/O on an open file.
struct FileAccess {
  int fd = -1;
  uint32_t memory_alignment = 1;    // in bytes; for addresses and lengths of buffers
  BlockLocks* locks = nullptr;      // set for a file system in memory
  SyncState* sync_state = nullptr;  // never null
};

/// Does I/O on a file through the reactor's file operations. After a failed sync, flushes and FUA
/// writes fail as long as the file is open; other I/O continues. If a buffer is not aligned as the
/// file requires, its data are copied through one of the channel's own buffers, in pieces.
class FileChannel : public bdev::Channel {
 public:
  FileChannel(bdev::Bdev& bdev, Reactor& reactor, const FileAccess& access);
  ~FileChannel() override;

 private:
  struct Task;  // stored in Io::scratch

  struct NextTurn : Deferred {
    FileChannel* channel;
  };

  void DoSubmit(bdev::Io& io) override;
  bool DoAbort(bdev::Io& io) override;

  void SubmitWhole(Task& task);
  void CopyParts(Task& task);
  int64_t CopyPart(const Task& task, uint64_t max_bytes);
  void RunNextTurn();
  void SubmitRange(Task& task, FileOp::Kind kind);
  void StartPieces(Task& task);
  void SubmitPiece(Task& task);
  void Sync(Task& task);
  static void OnDone(FileOp& op, int64_t result);
  void OnWholeDone(Task& task, int64_t result);
  void OnPieceDone(Task& task, int64_t result);
  void OnRangeDone(Task& task, int64_t result);
  void Finish(Task& task, int64_t result);
  bool LosesData(const Task& task, int64_t result) const;
  void OnSyncFailed(int64_t result);
  bool IsAligned(const bdev::Io& io) const;

  void GiveBuffer(std::byte* buffer);

  const FileAccess access_;
  bdev::BufferPool buffers_;
  bdev::IoQueue waiting_;  // I/Os that wait for a buffer
  // Only for a file in memory:
  bdev::IoQueue copying_;  // I/Os that wait for their turn, first in, first out
  bdev::Turn turn_;
  bool in_turn_ = false;
  NextTurn next_turn_;
};

}  // namespace sma::storage_target::bdev_file
