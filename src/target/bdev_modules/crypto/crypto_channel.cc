#include "target/bdev_modules/crypto/crypto_channel.h"

#include <algorithm>
#include <utility>

#include "target/bdev/bdev.h"

namespace sma::target::bdev_modules {
namespace {

using bdev::Io;
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
  if (io.type == IoType::kWrite) return StartWrite(io);
  HandDown(io);
}

void CryptoChannel::HandDown(Io& io) {
  Child& child = children_.Take();
  child.parent = &io;
  child.type = io.type;
  child.fua = io.fua;
  child.lba = io.lba;
  child.block_count = io.block_count;
  child.iovs = io.iovs;
  child.iov_count = io.iov_count;
  child.done = OnChildDone;
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

void CryptoChannel::StartWrite(Io& io) {
  std::byte* buffer = buffers_.Take();
  if (buffer == nullptr) {
    io.next = nullptr;
    *waiting_tail_ = &io;
    waiting_tail_ = &io.next;
    return;
  }
  Child& child = children_.Take();
  child.parent = &io;
  child.done_blocks = 0;
  child.buffer = buffer;
  WritePiece(child);
}

void CryptoChannel::WritePiece(Child& child) {
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
  child.done = OnChildDone;
  IovCursor plain(io.iovs, io.iov_count);
  plain.Skip(child.done_blocks * block_size);
  if (!cipher_.Encrypt(child.lba, child.block_count, plain, child.buffer)) {
    return EndWrite(child, IoStatus::kFailed);
  }
  base_->Submit(child);
}

void CryptoChannel::OnPieceDone(Child& child, IoStatus status) {
  child.done_blocks += child.block_count;
  if (status == IoStatus::kOk && child.done_blocks < child.parent->block_count) {
    return WritePiece(child);
  }
  EndWrite(child, status);
}

void CryptoChannel::EndWrite(Child& child, IoStatus status) {
  Io& parent = *child.parent;
  buffers_.Give(child.buffer);
  children_.Give(child);
  if (waiting_head_ != nullptr) {
    Io& next = *waiting_head_;
    waiting_head_ = next.next;
    if (waiting_head_ == nullptr) waiting_tail_ = &waiting_head_;
    StartWrite(next);
  }
  Complete(parent, status);
}

}  // namespace sma::target::bdev_modules
