#include "target/bdev/emulator.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "target/bdev/bdev.h"
#include "target/bdev/channel.h"
#include "target/bdev/zeroes.h"

namespace sma::target::bdev {
namespace {

constexpr size_t kPieceBytes = 128 * 1024;
constexpr size_t kPageBytes = 4096;

/// The same bytes at `offset` of `iovs` as in `data`?
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
      piece_blocks_(std::max<uint64_t>(1, kPieceBytes / channel.bdev().block_size())) {
  size_t size = piece_blocks_ * channel.bdev().block_size();
  buffer_.reset(static_cast<std::byte*>(std::aligned_alloc(kPageBytes, size)));
  if (!buffer_) std::abort();
}

void Emulator::Run(Io& io) {
  waiting_.Append(io);
  if (current_ == nullptr && TakeNext()) SubmitPieces();
}

// False when nothing waits.
bool Emulator::TakeNext() {
  current_ = nullptr;
  if (waiting_.empty()) return false;
  current_ = &waiting_.TakeFirst();
  done_blocks_ = 0;
  aborted_ = false;
  return true;
}

// Of what has begun the module may be able to end the present piece, which ends the whole; unless
// the piece is being submitted just now.
bool Emulator::Abort(Io& io) {
  if (&io != current_) {
    IoQueue::Remove(io);
    channel_.Finish(io, IoStatus::kAborted);
    return true;
  }
  aborted_ = true;
  return !in_piece_ && channel_.DoAbort(child_);
}

// Goes on until the module keeps a piece or nothing is left. A loop, not a recursion through a
// module that completes at once.
void Emulator::SubmitPieces() {
  do {
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
  channel_.SubmitChild(child_);
}

void Emulator::OnChildDone(IoStatus status) {
  piece_status_ = status;
  piece_done_ = true;
  if (!in_piece_ && HandlePiece()) SubmitPieces();
}

// True when another piece is to follow, of this I/O or of the next. Otherwise the submitter, told
// that its last I/O is done, may have destroyed the channel, and this with it.
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
  Io& io = *current_;
  bool more = TakeNext();
  channel_.Finish(io, status);
  return more;
}

bool Emulator::PieceMatches() const {
  return Equal(current_->iovs, current_->iov_count, done_blocks_ * channel_.bdev().block_size(),
               buffer_.get(), iov_.iov_len);
}

}  // namespace sma::target::bdev
