#include "target/bdev_modules/crypto/crypto_channel.h"

#include <algorithm>
#include <new>
#include <utility>

#include "target/bdev/bdev.h"

namespace sma::target::bdev_modules {
namespace {

using bdev::Io;
using bdev::IoQueue;
using bdev::IoStatus;
using bdev::IoType;

constexpr size_t kBufferBytes = 256 * 1024;
constexpr size_t kMaxBuffers = 32;

}  // namespace

CryptoChannel::CryptoChannel(bdev::Bdev& bdev, Reactor& reactor,
                             std::unique_ptr<bdev::Channel> base, const CryptoKey& key)
    : Channel(bdev, reactor),
      base_(std::move(base)),
      cipher_(key, bdev.block_size()),
      buffers_(std::max<size_t>(kBufferBytes, bdev.block_size()), kMaxBuffers) {}

void CryptoChannel::DoSubmit(Io& io) {
  if (io.type != IoType::kWrite) return HandDown(io);
  std::byte* buffer = waiting_.empty() ? buffers_.Take() : nullptr;
  if (buffer != nullptr) return StartWrite(io, buffer);
  new (io.scratch.data()) Child*(nullptr);
  waiting_.Append(io);
}

bool CryptoChannel::DoAbort(Io& io) {
  Child* child = ChildOf(io);
  if (child == nullptr) {
    IoQueue::Remove(io);
    Complete(io, IoStatus::kAborted);
    return true;
  }
  child->aborted = true;
  return !child->submitting && base_->Abort(*child);
}

CryptoChannel::Child*& CryptoChannel::ChildOf(Io& io) {
  return *std::launder(reinterpret_cast<Child**>(io.scratch.data()));
}

CryptoChannel::Child& CryptoChannel::TakeChild(Io& io) {
  Child& child = children_.Take();
  new (io.scratch.data()) Child*(&child);
  child.parent = &io;
  child.done = OnChildDone;
  child.submitting = false;
  child.aborted = false;
  return child;
}

void CryptoChannel::HandDown(Io& io) {
  Child& child = TakeChild(io);
  child.type = io.type;
  child.fua = io.fua;
  child.lba = io.lba;
  child.block_count = io.block_count;
  child.iovs = io.iovs;
  child.iov_count = io.iov_count;
  base_->Submit(child);
}

void CryptoChannel::OnChildDone(Io& io, IoStatus status) {
  auto& child = static_cast<Child&>(io);
  Io& parent = *child.parent;
  auto& channel = static_cast<CryptoChannel&>(*parent.channel);
  if (parent.type == IoType::kWrite) return channel.OnPieceDone(child, status);
  channel.children_.Give(child);
  if (status == IoStatus::kOk && parent.type == IoType::kRead &&
      !channel.cipher_.Decrypt(parent.lba, parent.block_count,
                               IovCursor(parent.iovs, parent.iov_count))) {
    status = IoStatus::kFailed;
  }
  channel.Complete(parent, status);
}

void CryptoChannel::StartWrite(Io& io, std::byte* buffer) {
  Child& child = TakeChild(io);
  child.done_blocks = 0;
  child.buffer = buffer;
  WritePieces(child);
}

// Until the base keeps a piece or nothing is left. A loop, not a recursion through a base that
// completes at once.
void CryptoChannel::WritePieces(Child& child) {
  do {
    if (!EncryptPiece(child)) return EndWrite(child, IoStatus::kFailed);
    child.piece_done = false;
    child.submitting = true;
    base_->Submit(child);
    child.submitting = false;
  } while (child.piece_done && HandlePiece(child));
}

bool CryptoChannel::EncryptPiece(Child& child) {
  const Io& io = *child.parent;
  const uint32_t block_size = bdev().block_size();
  child.type = IoType::kWrite;
  child.fua = io.fua;
  child.lba = io.lba + child.done_blocks;
  child.block_count =
      std::min<uint64_t>(io.block_count - child.done_blocks, buffers_.buffer_bytes() / block_size);
  child.iov = {child.buffer, child.block_count * block_size};
  child.iovs = &child.iov;
  child.iov_count = 1;
  IovCursor plain(io.iovs, io.iov_count);
  plain.Skip(child.done_blocks * block_size);
  return cipher_.Encrypt(child.lba, child.block_count, plain, child.buffer);
}

void CryptoChannel::OnPieceDone(Child& child, IoStatus status) {
  child.status = status;
  child.piece_done = true;
  if (!child.submitting && HandlePiece(child)) WritePieces(child);
}

// True when another piece is to follow. Otherwise the write has ended, and its submitter may have
// destroyed the channel.
bool CryptoChannel::HandlePiece(Child& child) {
  child.done_blocks += child.block_count;
  IoStatus status = child.status;
  if (status == IoStatus::kOk && child.done_blocks < child.parent->block_count) {
    if (!child.aborted) return true;
    status = IoStatus::kAborted;
  }
  EndWrite(child, status);
  return false;
}

void CryptoChannel::EndWrite(Child& child, IoStatus status) {
  Io& parent = *child.parent;
  buffers_.Give(child.buffer);
  children_.Give(child);
  StartWaiting();
  Complete(parent, status);
}

// A write that ends in here at once starts none: this loop does. The channel stays, because the
// write whose end called this has not been answered.
void CryptoChannel::StartWaiting() {
  if (std::exchange(starting_waiting_, true)) return;
  while (!waiting_.empty()) {
    std::byte* buffer = buffers_.Take();
    if (buffer == nullptr) break;
    StartWrite(waiting_.TakeFirst(), buffer);
  }
  starting_waiting_ = false;
}

}  // namespace sma::target::bdev_modules
