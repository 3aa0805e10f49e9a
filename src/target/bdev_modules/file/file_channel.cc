#include "target/bdev_modules/file/file_channel.h"

#include <limits.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <type_traits>

#include "target/bdev/bdev.h"
#include "target/bdev/zeroes.h"
#include "target/reactor/reactor.h"

namespace sma::target::bdev_modules {
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

/// Copies between `buffer` and the bytes of `iovs` from `offset` on.
void CopyPart(const Io& io, size_t offset, std::byte* buffer, size_t size, bool to_iovs) {
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
  uint64_t done_bytes = 0;      // in pieces
  std::byte* buffer = nullptr;  // for pieces
  iovec iov{};
  enum class Stage : uint8_t { kWhole, kPiece, kZeroRange, kPunchHole, kSync } stage;
  bool waiting = false;  // for a buffer
  bool aborted = false;  // nothing more is given to the kernel
};

FileChannel::FileChannel(bdev::Bdev& bdev, Reactor& reactor, const FileAccess& access)
    : Channel(bdev, reactor), access_(access), buffers_(kBufferBytes, kMaxBuffers) {
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
    case IoType::kRead:
    case IoType::kWrite:
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
  if (access_.in_memory) return CopyWhole(task);
  reactor().SubmitFileOp(task);
}

// io_uring would give it to a thread of the kernel's, because such a file system cannot promise not
// to wait: two switches of threads for a copy of memory.
void FileChannel::CopyWhole(Task& task) {
  const auto count = static_cast<int>(task.iov_count);
  const auto offset = static_cast<off_t>(task.offset_bytes);
  const ssize_t result = task.kind == FileOp::Kind::kReadv
                             ? ::preadv(task.fd, task.iovs, count, offset)
                             : ::pwritev(task.fd, task.iovs, count, offset);
  OnWholeDone(task, result < 0 ? -errno : result);
}

void FileChannel::SubmitRange(Task& task, FileOp::Kind kind) {
  task.stage = kind == FileOp::Kind::kZeroRange ? Task::Stage::kZeroRange : Task::Stage::kPunchHole;
  task.kind = kind;
  reactor().SubmitFileOp(task);
}

void FileChannel::Sync(Task& task) {
  task.stage = Task::Stage::kSync;
  task.kind = FileOp::Kind::kFdatasync;
  reactor().SubmitFileOp(task);
}

// Goes on from done_bytes, as soon as a buffer is free. Zeroes need none.
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
    if (io.type == IoType::kWrite) CopyPart(io, task.done_bytes, task.buffer, size, false);
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
      return channel.Finish(task, result);
  }
}

void FileChannel::OnWholeDone(Task& task, int64_t result) {
  if (result <= 0) return Finish(task, result == 0 ? -EIO : result);
  auto done = static_cast<uint64_t>(result);
  if (done == task.length_bytes) return Finish(task, result);
  if (task.aborted) return Finish(task, -ECANCELED);
  // The kernel did a part only; it says by itself why when the rest is asked for.
  task.done_bytes = done / bdev().block_size() * bdev().block_size();
  StartPieces(task);
}

void FileChannel::OnPieceDone(Task& task, int64_t result) {
  if (result > 0) {
    auto done = static_cast<uint64_t>(result) / bdev().block_size() * bdev().block_size();
    if (task.io->type == IoType::kRead)
      CopyPart(*task.io, task.done_bytes, task.buffer, done, true);
    task.done_bytes += done;
    if (done == 0) result = -EIO;
  } else if (result == 0) {
    result = -EIO;  // the file has become shorter
  }
  if (result > 0 && task.done_bytes < task.length_bytes) {
    if (!task.aborted) return SubmitPiece(task);
    result = -ECANCELED;
  }
  if (!WritesZeroes(task.io->type)) GiveBuffer(task.buffer);
  Finish(task, result);
}

// What a file system cannot do is done another way: zeroes by a hole, or else by writing them; and
// so is an unmap, because the blocks are said to read as zeroes then.
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

void FileChannel::Finish(Task& task, int64_t result) { Complete(*task.io, StatusOf(result)); }

void FileChannel::GiveBuffer(std::byte* buffer) {
  buffers_.Give(buffer);
  if (waiting_.empty()) return;
  Io& io = waiting_.TakeFirst();
  StartPieces(*std::launder(reinterpret_cast<Task*>(io.scratch.data())));
}

}  // namespace sma::target::bdev_modules
