// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev/emulator.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "storage_target/bdev/bdev.h"
#include "storage_target/bdev/channel.h"
#include "storage_target/bdev/zeroes.h"

namespace sma::storage_target::bdev {
namespace {

constexpr size_t kPieceBytes = 128 * 1024;
constexpr size_t kPageBytes = 4096;

/// Returns true if the bytes at `offset` of `iovs` equal `data`.
bool Equal(const iovec* iovs, uint32_t iov_count, size_t offset, const std::byte* data,
           size_t size) {
  for (uint32_t i = 0; i < iov_count && size != 0; ++i) {
    if (offset >= iovs[i].iov_len) {
      offset -= iovs[i].iov_len;
      continue;
    }
    size_t part = std::min(size, iovs[i].iov_len - offset);
    if (std::memcmp(static_cast<const std::byte*>(iovs[i].iov_base) + offset, data, part) != 0) {
      return false;
    }
    data += part;
    size -= part;
    offset = 0;
  }
  return true;
}

}  // namespace

void Emulator::Free::operator()(std::byte* memory) const { std::free(memory); }

Emulator::Emulator(Channel& channel)
    : channel_(channel),
      piece_blocks_(std::max<uint64_t>(1, kPieceBytes / channel.bdev().block_size())),
      turn_(channel.reactor()) {
  size_t size = piece_blocks_ * channel.bdev().block_size();
  buffer_.reset(static_cast<std::byte*>(std::aligned_alloc(kPageBytes, size)));
  if (!buffer_) std::abort();
  next_turn_.emulator = this;
  next_turn_.run = [](Deferred& self) { static_cast<NextTurn&>(self).emulator->RunNextTurn(); };
}

void Emulator::Run(Io& io) {
  waiting_.Append(io);
  if (current_ == nullptr && TakeNext()) SubmitPieces();
}

// Returns false if no I/O is waiting.
bool Emulator::TakeNext() {
  current_ = nullptr;
  if (waiting_.empty()) return false;
  current_ = &waiting_.TakeFirst();
  done_blocks_ = 0;
  aborted_ = false;
  return true;
}

// If the I/O has started, the module may be able to abort the current piece, which completes the
// whole I/O, unless that piece is just being submitted.
bool Emulator::Abort(Io& io) {
  if (&io != current_) {
    IoQueue::Remove(io);
    channel_.Finish(io, IoStatus::kAborted);
    return true;
  }
  aborted_ = true;
  return !in_piece_ && !next_turn_.scheduled() && channel_.DoAbort(child_);
}

void Emulator::RunNextTurn() {
  if (aborted_ && !EndCurrent(IoStatus::kAborted)) return;
  SubmitPieces();
}

// Submits pieces until one completes asynchronously, the turn is over or nothing is left. Uses a
// loop, because modules that complete synchronously would cause a recursion.
void Emulator::SubmitPieces() {
  do {
    if (turn_.is_over()) return channel_.reactor().Defer(next_turn_);
    piece_done_ = false;
    in_piece_ = true;
    SubmitPiece();
    in_piece_ = false;
  } while (piece_done_ && HandlePiece());
}

void Emulator::SubmitPiece() {
  const Io& io = *current_;
  uint32_t block_size = channel_.bdev().block_size();
  child_.lba = io.lba + done_blocks_;
  child_.block_count = std::min(piece_blocks_, io.block_count - done_blocks_);
  child_.iovs = &iov_;
  child_.iov_count = 1;
  child_.fua = false;
  iov_.iov_len = child_.block_count * block_size;
  if (io.type == IoType::kCompare) {
    child_.type = IoType::kRead;
    iov_.iov_base = buffer_.get();
  } else if (done_blocks_ < io.block_count) {
    child_.type = IoType::kWrite;
    child_.fua = io.fua;
    iov_.iov_base = Zeroes().data();
  } else {
    child_.type = IoType::kFlush;
  }
  turn_.Use(iov_.iov_len);
  channel_.SubmitChild(child_);
}

void Emulator::OnChildDone(IoStatus status) {
  piece_status_ = status;
  piece_done_ = true;
  if (!in_piece_ && HandlePiece()) SubmitPieces();
}

// Returns true if another piece of this I/O or of the next one follows. If it returns false, the
// completion of the channel's last I/O may have destroyed the channel and this object.
bool Emulator::HandlePiece() {
  IoStatus status = piece_status_;
  if (status == IoStatus::kOk && current_->type == IoType::kCompare && !PieceMatches()) {
    status = IoStatus::kMiscompare;
  }
  done_blocks_ += child_.block_count;
  bool all_done = child_.type == IoType::kFlush || done_blocks_ == current_->block_count;
  bool flush_follows = child_.type == IoType::kWrite && current_->fua && channel_.flush_after_fua_;
  if (status == IoStatus::kOk && (!all_done || flush_follows)) {
    if (!aborted_) return true;
    status = IoStatus::kAborted;
  }
  return EndCurrent(status);
}

// Returns the same as HandlePiece.
bool Emulator::EndCurrent(IoStatus status) {
  Io& io = *current_;
  bool more = TakeNext();
  channel_.Finish(io, status);
  return more;
}

bool Emulator::PieceMatches() const {
  return Equal(current_->iovs, current_->iov_count, done_blocks_ * channel_.bdev().block_size(),
               buffer_.get(), iov_.iov_len);
}

}  // namespace sma::storage_target::bdev
