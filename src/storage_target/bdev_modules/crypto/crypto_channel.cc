// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/crypto/crypto_channel.h"

#include <algorithm>
#include <new>
#include <utility>

#include "storage_target/bdev/bdev.h"

namespace sma::storage_target::bdev_crypto {
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
      buffers_(std::max<size_t>(kBufferBytes, bdev.block_size()), kMaxBuffers),
      turn_(reactor) {
  next_turn_.channel = this;
  next_turn_.run = [](Deferred& self) { static_cast<NextTurn&>(self).channel->RunNextTurn(); };
}

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
  return !child->submitting && !child->resting && base_->Abort(*child);
}

CryptoChannel::Child*& CryptoChannel::ChildOf(Io& io) {
  return *std::launder(reinterpret_cast<Child**>(io.scratch.data()));
}

CryptoChannel::Child& CryptoChannel::TakeChild(Io& io) {
  Child& child = children_.Take();
  new (io.scratch.data()) Child*(&child);
  child.parent = &io;
  child.done = OnChildDone;
  child.done_blocks = 0;
  child.submitting = child.resting = child.aborted = false;
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
  if (status == IoStatus::kOk && parent.type == IoType::kRead) {
    return channel.resting_.empty() ? channel.DecryptParts(child) : channel.Rest(child);
  }
  channel.children_.Give(child);
  channel.Complete(parent, status);
}

// Decrypts the data of a read, as far as the turn allows.
void CryptoChannel::DecryptParts(Child& child) {
  const uint64_t turn_blocks = (turn_.left_bytes() + bdev().block_size() - 1) / bdev().block_size();
  if (turn_blocks == 0) return Rest(child);
  Io& parent = *child.parent;
  const uint64_t blocks = std::min(turn_blocks, parent.block_count - child.done_blocks);
  IovCursor data(parent.iovs, parent.iov_count);
  data.Skip(child.done_blocks * bdev().block_size());
  turn_.Use(blocks * bdev().block_size());
  const bool decrypted = cipher_.Decrypt(parent.lba + child.done_blocks, blocks, data);
  child.done_blocks += blocks;
  if (decrypted && child.done_blocks < parent.block_count) {
    if (!child.aborted) return Rest(child);
  }
  const bool whole = child.done_blocks == parent.block_count;
  children_.Give(child);
  Complete(parent, !decrypted ? IoStatus::kFailed : whole ? IoStatus::kOk : IoStatus::kAborted);
}

void CryptoChannel::Rest(Child& child) {
  child.resting = true;
  resting_.Append(child);
  reactor().Defer(next_turn_);
}

// The completion of the last I/O may destroy the channel.
void CryptoChannel::RunNextTurn() {
  while (!turn_.is_over()) {
    Child& child = static_cast<Child&>(resting_.TakeFirst());
    child.resting = false;
    const bool last = resting_.empty();
    if (child.parent->type == IoType::kRead) {
      DecryptParts(child);
    } else {
      WritePieces(child);
    }
    if (last) return;
  }
  reactor().Defer(next_turn_);
}

void CryptoChannel::StartWrite(Io& io, std::byte* buffer) {
  Child& child = TakeChild(io);
  child.buffer = buffer;
  resting_.empty() ? WritePieces(child) : Rest(child);
}

// Writes pieces until the base completes one asynchronously, the turn is over or nothing is left.
// Uses a loop, because a base that completes synchronously would cause a recursion.
void CryptoChannel::WritePieces(Child& child) {
  do {
    if (turn_.is_over()) return Rest(child);
    if (child.aborted) return EndWrite(child, IoStatus::kAborted);
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
  turn_.Use(child.iov.iov_len);
  IovCursor plain(io.iovs, io.iov_count);
  plain.Skip(child.done_blocks * block_size);
  return cipher_.Encrypt(child.lba, child.block_count, plain, child.buffer);
}

void CryptoChannel::OnPieceDone(Child& child, IoStatus status) {
  child.status = status;
  child.piece_done = true;
  if (!child.submitting && HandlePiece(child)) WritePieces(child);
}

// Returns true if another piece follows. Otherwise the write has ended, and its submitter may have
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

// A write that completes within this loop does not start another one, since the loop does that. The
// channel continues to exist, because the write whose end called this function has not been
// completed yet.
void CryptoChannel::StartWaiting() {
  if (std::exchange(starting_waiting_, true)) return;
  while (!waiting_.empty()) {
    std::byte* buffer = buffers_.Take();
    if (buffer == nullptr) break;
    StartWrite(waiting_.TakeFirst(), buffer);
  }
  starting_waiting_ = false;
}

}  // namespace sma::storage_target::bdev_crypto
