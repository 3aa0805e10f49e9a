// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/file/file_channel.h"

#include <limits.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <new>
#include <type_traits>

#include "base/log.h"
#include "storage_target/bdev/bdev.h"
#include "storage_target/bdev/zeroes.h"
#include "storage_target/reactor/reactor.h"

namespace sma::storage_target::bdev_file {
namespace {

using bdev::Io;
using bdev::IoQueue;
using bdev::IoStatus;
using bdev::IoType;

constexpr size_t kBufferBytes = 256 * 1024;
constexpr size_t kMaxBuffers = 16;

IoStatus StatusOf(int64_t result) {
  if (result >= 0) return IoStatus::kOk;
  switch (-result) {
    case ENOSPC:
    case EDQUOT:
      return IoStatus::kNoSpace;
    case EOPNOTSUPP:
      return IoStatus::kUnsupported;
    case ECANCELED:
      return IoStatus::kAborted;
    default:
      return IoStatus::kFailed;
  }
}

bool WritesZeroes(IoType type) { return type == IoType::kWriteZeroes || type == IoType::kUnmap; }

/// Copies between `buffer` and the bytes of `iovs` that start at `offset`.
void CopyBytes(const Io& io, size_t offset, std::byte* buffer, size_t size, bool to_iovs) {
  for (uint32_t i = 0; i < io.iov_count && size != 0; ++i) {
    if (offset >= io.iovs[i].iov_len) {
      offset -= io.iovs[i].iov_len;
      continue;
    }
    size_t part = std::min(size, io.iovs[i].iov_len - offset);
    std::byte* theirs = static_cast<std::byte*>(io.iovs[i].iov_base) + offset;
    std::memcpy(to_iovs ? theirs : buffer, to_iovs ? buffer : theirs, part);
    buffer += part;
    size -= part;
    offset = 0;
  }
}

}  // namespace

struct FileChannel::Task : FileOp {
  Io* io = nullptr;
  uint64_t done_bytes = 0;      // number of bytes completed in pieces or parts
  std::byte* buffer = nullptr;  // the buffer for pieces
  iovec iov{};
  enum class Stage : uint8_t { kWhole, kPiece, kZeroRange, kPunchHole, kSync } stage;
  bool waiting = false;  // waits for a buffer or its turn
  bool aborted = false;  // nothing more is submitted to the kernel
};

FileChannel::FileChannel(bdev::Bdev& bdev, Reactor& reactor, const FileAccess& access)
    : Channel(bdev, reactor), access_(access), buffers_(kBufferBytes, kMaxBuffers), turn_(reactor) {
  next_turn_.channel = this;
  next_turn_.run = [](Deferred& self) { static_cast<NextTurn&>(self).channel->RunNextTurn(); };
  static_assert(sizeof(Task) <= sizeof(Io::scratch));
  static_assert(std::is_trivially_destructible_v<Task>);
}

FileChannel::~FileChannel() = default;

void FileChannel::DoSubmit(Io& io) {
  Task& task = *new (io.scratch.data()) Task;
  task.io = &io;
  task.fd = access_.fd;
  task.done = OnDone;
  task.offset_bytes = io.lba * bdev().block_size();
  task.length_bytes = io.block_count * bdev().block_size();
  switch (io.type) {
    case IoType::kWrite:
      if (io.fua && access_.sync_state->failed()) return Complete(io, IoStatus::kFailed);
      [[fallthrough]];
    case IoType::kRead:
      return IsAligned(io) ? SubmitWhole(task) : StartPieces(task);
    case IoType::kFlush:
      return Sync(task);
    case IoType::kUnmap:
      return SubmitRange(task, FileOp::Kind::kPunchHole);
    case IoType::kWriteZeroes:
      return SubmitRange(task, io.deallocate ? FileOp::Kind::kPunchHole : FileOp::Kind::kZeroRange);
    case IoType::kCompare:
      break;
  }
  Complete(io, IoStatus::kUnsupported);
}

bool FileChannel::DoAbort(Io& io) {
  Task& task = *std::launder(reinterpret_cast<Task*>(io.scratch.data()));
  task.aborted = true;
  // The I/O is ended at its next turn. If a turn is running, the I/Os that it has not reached keep
  // the channel alive.
  const bool ends_in_turn = access_.locks != nullptr && (task.done_bytes > 0 || in_turn_);
  if (task.waiting && ends_in_turn) return false;
  if (task.waiting) {
    IoQueue::Remove(io);
    Finish(task, -ECANCELED);
    return true;
  }
  if (!reactor().CancelFileOp(task)) return false;
  OnDone(task, -ECANCELED);
  return true;
}

bool FileChannel::IsAligned(const Io& io) const {
  if (io.iov_count > IOV_MAX) return false;
  uint64_t bits = 0;
  for (uint32_t i = 0; i < io.iov_count; ++i) {
    bits |= reinterpret_cast<uintptr_t>(io.iovs[i].iov_base) | io.iovs[i].iov_len;
  }
  return (bits & (access_.memory_alignment - 1)) == 0;
}

void FileChannel::SubmitWhole(Task& task) {
  task.stage = Task::Stage::kWhole;
  task.kind = task.io->type == IoType::kRead ? FileOp::Kind::kReadv : FileOp::Kind::kWritev;
  task.dsync = task.io->type == IoType::kWrite && task.io->fua;
  task.iovs = task.io->iovs;
  task.iov_count = task.io->iov_count;
  if (access_.locks == nullptr) return reactor().SubmitFileOp(task);
  if (copying_.empty()) return CopyParts(task);
  task.waiting = true;
  copying_.Append(*task.io);
}

// io_uring would pass the I/O to a kernel thread, because such a file system cannot guarantee that
// it does not block. That would cost two context switches for a memory copy. Copies no more at once
// than a turn allows; the parts are whole blocks.
void FileChannel::CopyParts(Task& task) {
  while (task.done_bytes < task.length_bytes) {
    if (task.aborted) return Finish(task, -ECANCELED);
    if (turn_.is_over()) {
      task.waiting = true;
      copying_.Append(*task.io);
      return reactor().Defer(next_turn_);
    }
    const int64_t result = CopyPart(task, turn_.left_bytes());
    if (result < 0) return Finish(task, result);
    // The kernel reports why it executed only a part when the rest is requested.
    const uint64_t whole =
        static_cast<uint64_t>(result) / bdev().block_size() * bdev().block_size();
    if (whole == 0) return Finish(task, -EIO);  // or the file has become shorter
    task.done_bytes += whole;
    turn_.Use(whole);
  }
  Finish(task, static_cast<int64_t>(task.length_bytes));
}

int64_t FileChannel::CopyPart(const Task& task, uint64_t max_bytes) {
  const uint64_t block_size = bdev().block_size();
  const uint64_t max_whole = (max_bytes + block_size - 1) / block_size * block_size;
  uint64_t left = std::min(task.length_bytes - task.done_bytes, max_whole);
  const uint64_t size = left;
  std::array<iovec, IOV_MAX> iovs;  // IsAligned ensures that there are no more
  int count = 0;
  uint64_t skip = task.done_bytes;
  for (uint32_t i = 0; i < task.iov_count && left > 0; ++i) {
    const iovec& from = task.iovs[i];
    if (skip >= from.iov_len) {
      skip -= from.iov_len;
      continue;
    }
    const uint64_t part = std::min<uint64_t>(from.iov_len - skip, left);
    iovs[static_cast<size_t>(count++)] = {static_cast<std::byte*>(from.iov_base) + skip, part};
    left -= part;
    skip = 0;
  }
  const uint64_t begin = task.offset_bytes + task.done_bytes;
  int64_t result = 0;
  access_.locks->With(begin, size, [&] {
    const auto offset = static_cast<off_t>(begin);
    result = task.kind == FileOp::Kind::kReadv ? ::preadv(task.fd, iovs.data(), count, offset)
                                               : ::pwritev(task.fd, iovs.data(), count, offset);
    if (result < 0) result = -errno;
  });
  return result;
}

// The completion of the last I/O may destroy the channel. I/Os that were waiting may have been
// aborted.
void FileChannel::RunNextTurn() {
  while (!copying_.empty() && !turn_.is_over()) {
    Io& io = copying_.TakeFirst();
    Task& task = *std::launder(reinterpret_cast<Task*>(io.scratch.data()));
    task.waiting = false;
    const bool last = copying_.empty();
    in_turn_ = !last;
    CopyParts(task);
    if (last) return;
    in_turn_ = false;
  }
  if (!copying_.empty()) reactor().Defer(next_turn_);
}

void FileChannel::SubmitRange(Task& task, FileOp::Kind kind) {
  task.stage = kind == FileOp::Kind::kZeroRange ? Task::Stage::kZeroRange : Task::Stage::kPunchHole;
  task.kind = kind;
  reactor().SubmitFileOp(task);
}

void FileChannel::Sync(Task& task) {
  task.stage = Task::Stage::kSync;
  task.kind = FileOp::Kind::kFdatasync;
  if (access_.sync_state->failed()) return Finish(task, -EIO);
  reactor().SubmitFileOp(task);
}

// Continues at done_bytes as soon as a buffer is free. No buffer is needed for writing zeroes.
void FileChannel::StartPieces(Task& task) {
  task.stage = Task::Stage::kPiece;
  if (WritesZeroes(task.io->type)) {
    task.buffer = bdev::Zeroes().data();
  } else {
    task.buffer = buffers_.Take();
    task.waiting = task.buffer == nullptr;
    if (task.waiting) return waiting_.Append(*task.io);
  }
  SubmitPiece(task);
}

void FileChannel::SubmitPiece(Task& task) {
  const Io& io = *task.io;
  uint64_t size = std::min<uint64_t>(kBufferBytes, task.length_bytes - task.done_bytes);
  task.iov = {task.buffer, size};
  task.iovs = &task.iov;
  task.iov_count = 1;
  task.offset_bytes = io.lba * bdev().block_size() + task.done_bytes;
  task.dsync = io.fua;
  if (io.type == IoType::kRead) {
    task.kind = FileOp::Kind::kReadv;
  } else {
    task.kind = FileOp::Kind::kWritev;
    if (io.type == IoType::kWrite) CopyBytes(io, task.done_bytes, task.buffer, size, false);
  }
  reactor().SubmitFileOp(task);
}

void FileChannel::OnDone(FileOp& op, int64_t result) {
  Task& task = static_cast<Task&>(op);
  auto& channel = static_cast<FileChannel&>(*task.io->channel);
  switch (task.stage) {
    case Task::Stage::kWhole:
      return channel.OnWholeDone(task, result);
    case Task::Stage::kPiece:
      return channel.OnPieceDone(task, result);
    case Task::Stage::kZeroRange:
    case Task::Stage::kPunchHole:
      return channel.OnRangeDone(task, result);
    case Task::Stage::kSync:
      // Another sync may have received the error of the same data.
      if (result == 0 && channel.access_.sync_state->failed()) result = -EIO;
      return channel.Finish(task, result);
  }
}

void FileChannel::OnWholeDone(Task& task, int64_t result) {
  if (result <= 0) return Finish(task, result == 0 ? -EIO : result);
  auto done = static_cast<uint64_t>(result);
  if (done == task.length_bytes) return Finish(task, result);
  if (task.aborted) return Finish(task, -ECANCELED);
  // The kernel has executed only a part; submitting the rest returns the reason.
  task.done_bytes = done / bdev().block_size() * bdev().block_size();
  StartPieces(task);
}

void FileChannel::OnPieceDone(Task& task, int64_t result) {
  if (result > 0) {
    auto done = static_cast<uint64_t>(result) / bdev().block_size() * bdev().block_size();
    if (task.io->type == IoType::kRead)
      CopyBytes(*task.io, task.done_bytes, task.buffer, done, true);
    task.done_bytes += done;
    if (done == 0) result = -EIO;
  } else if (result == 0) {
    result = -EIO;  // the file has been truncated
  }
  if (result > 0 && task.done_bytes < task.length_bytes) {
    if (!task.aborted) return SubmitPiece(task);
    result = -ECANCELED;
  }
  if (!WritesZeroes(task.io->type)) GiveBuffer(task.buffer);
  Finish(task, result);
}

// Replaces operations that the file system does not support: zeroes are written by punching a hole
// or else by writing them. An unmap is replaced too, because unmapped blocks are promised to read
// as zeroes.
void FileChannel::OnRangeDone(Task& task, int64_t result) {
  if (result == -EOPNOTSUPP || result == -ENOSYS) {
    if (task.aborted) return Finish(task, -ECANCELED);
    const bool deallocates = task.io->type == IoType::kUnmap || task.io->deallocate;
    const Task::Stage first = deallocates ? Task::Stage::kPunchHole : Task::Stage::kZeroRange;
    if (task.stage != first) return StartPieces(task);
    return SubmitRange(task, deallocates ? FileOp::Kind::kZeroRange : FileOp::Kind::kPunchHole);
  }
  if (result == 0 && task.io->fua) return Sync(task);
  Finish(task, result);
}

void FileChannel::Finish(Task& task, int64_t result) {
  if (result < 0 && LosesData(task, result)) OnSyncFailed(result);
  Complete(*task.io, StatusOf(result));
}

// Returns true if data that the kernel has accepted earlier may be lost. A FUA write through the
// page cache fails before it syncs if there is no space; with direct I/O the kernel holds no data.
bool FileChannel::LosesData(const Task& task, int64_t result) const {
  if (result == -ECANCELED || result == -EINTR) return false;
  if (task.kind == FileOp::Kind::kFdatasync) return true;
  const bool syncs = task.kind == FileOp::Kind::kWritev && task.dsync;
  return syncs && access_.memory_alignment == 1 && StatusOf(result) == IoStatus::kFailed;
}

void FileChannel::OnSyncFailed(int64_t result) {
  if (!access_.sync_state->Fail()) return;
  spdlog::error(
      "{}: sync failed: {}; acknowledged writes may be lost, flushes fail until the bdev is "
      "deleted "
      "and created again",
      bdev().name(), std::strerror(static_cast<int>(-result)));
}

void FileChannel::GiveBuffer(std::byte* buffer) {
  buffers_.Give(buffer);
  if (waiting_.empty()) return;
  Io& io = waiting_.TakeFirst();
  StartPieces(*std::launder(reinterpret_cast<Task*>(io.scratch.data())));
}

}  // namespace sma::storage_target::bdev_file
