// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvmf/vfio_user/unshared_data.h"

#include <cstring>
#include <utility>

#include "storage_target/nvmf/vfio_user/data_pointer.h"
#include "storage_target/nvmf/vfio_user/submission_queue.h"

namespace sma::storage_target::nvmf::vfio_user {

using nvme::Status;
using storage_target::vfio_user::DmaTransfer;

void UnsharedData::Prepare() {
  if (buffers_) return;
  buffers_ = std::make_unique_for_overwrite<UnsharedBuffer[]>(kBufferCount);
  for (uint32_t i = 0; i < kBufferCount; ++i) {
    UnsharedBuffer& buffer = buffers_[i];
    buffer.owner = this;
    buffer.memory = std::make_unique_for_overwrite<std::byte[]>(max_bytes_);
    buffer.next_free = std::exchange(free_, &buffer);
  }
}

bool UnsharedData::Acquire(MemoryRequest& request) {
  if (request.buffer == nullptr) {
    if (free_ == nullptr || !waiting_.empty()) {
      request.waits_for_buffer = true;
      waiting_.Append(request);
      return false;
    }
    request.buffer = std::exchange(free_, free_->next_free);
    request.buffer->request = &request;
  }
  request.pieces[0] = {request.buffer->memory.get(), request.data_size};
  request.iovs = request.pieces.data();
  request.iov_count = 1;
  return true;
}

MemoryRequest* UnsharedData::TakeWaiting() {
  if (!has_waiting()) return nullptr;
  MemoryRequest& request = *waiting_.first();
  CancelWait(request);
  request.buffer = std::exchange(free_, free_->next_free);
  request.buffer->request = &request;
  Acquire(request);
  return &request;
}

bool UnsharedData::CancelWait(MemoryRequest& request) {
  if (!std::exchange(request.waits_for_buffer, false)) return false;
  waiting_.Remove(request);
  return true;
}

void UnsharedData::Release(MemoryRequest& request) {
  UnsharedBuffer* buffer = std::exchange(request.buffer, nullptr);
  if (buffer == nullptr) return;
  buffer->request = nullptr;
  buffer->next_free = std::exchange(free_, buffer);
}

void UnsharedData::Move(MemoryRequest& request, DmaAccessMode direction) {
  UnsharedBuffer& buffer = *request.buffer;
  buffer.moving = true;
  buffer.direction = direction;
  buffer.lists.Clear();
  Describe(buffer);
}

bool UnsharedData::CancelMove(MemoryRequest& request) {
  UnsharedBuffer* buffer = request.buffer;
  if (buffer == nullptr || !std::exchange(buffer->moving, false)) return false;
  messages_->Cancel(*buffer);
  return true;
}

void UnsharedData::End(UnsharedBuffer& buffer, Status status) {
  buffer.moving = false;
  MemoryRequest& request = *buffer.request;
  static_cast<SubmissionQueue*>(request.queue_pair)->OnDataMoved(request, status);
}

template <void (UnsharedData::*kOnDone)(UnsharedBuffer&, bool)>
void UnsharedData::Begin(UnsharedBuffer& buffer, const GuestPiece& piece, std::byte* bytes,
                         DmaAccessMode mode) {
  buffer.address = piece.address;
  buffer.bytes = {bytes, piece.size_bytes};
  buffer.mode = mode;
  buffer.done = [](DmaTransfer& transfer, bool ok) {
    auto& ended = static_cast<UnsharedBuffer&>(transfer);
    (ended.owner->*kOnDone)(ended, ok);
  };
  messages_->Begin(buffer);
}

// Walks the data pointer from its start; called again after each fetched list.
void UnsharedData::Describe(UnsharedBuffer& buffer) {
  const MemoryRequest& request = *buffer.request;
  GuestPiece missing;
  const Status status = DescribeData(memory_, buffer.lists, request.command, request.data_size,
                                     buffer.pieces, missing);
  if (status == Status::kSuccess) {
    buffer.piece = 0;
    buffer.piece_offset = buffer.offset = 0;
    return MovePieces(buffer);
  }
  if (missing.size_bytes == 0) return End(buffer, status);
  const std::span<std::byte> room = buffer.lists.Add(missing);
  if (room.empty()) return End(buffer, Status::kInvalidNumberOfSglDescriptors);
  Begin<&UnsharedData::OnListFetched>(buffer, missing, room.data(), DmaAccessMode::kRead);
}

void UnsharedData::OnListFetched(UnsharedBuffer& buffer, bool ok) {
  if (!ok) return End(buffer, Status::kDataTransferError);
  Describe(buffer);
}

void UnsharedData::Advance(UnsharedBuffer& buffer, uint64_t size_bytes) {
  buffer.offset += size_bytes;
  buffer.piece_offset += size_bytes;
  if (buffer.piece_offset < buffer.pieces.list[buffer.piece].size_bytes) return;
  ++buffer.piece;
  buffer.piece_offset = 0;
}

// Each piece is looked up again, because the host may have changed its mappings since the last
// part.
void UnsharedData::MovePieces(UnsharedBuffer& buffer) {
  const bool reads = buffer.direction == DmaAccessMode::kRead;
  while (buffer.piece < buffer.pieces.count) {
    const GuestPiece& piece = buffer.pieces.list[buffer.piece];
    const uint64_t address = piece.address + buffer.piece_offset;
    const uint64_t rest_bytes = piece.size_bytes - buffer.piece_offset;
    std::byte* here = buffer.memory.get() + buffer.offset;
    const std::span<std::byte> shared = memory_.Find(address, rest_bytes, buffer.direction);
    if (!shared.empty()) {
      std::memcpy(reads ? here : shared.data(), reads ? shared.data() : here, shared.size());
      Advance(buffer, shared.size());
      continue;
    }
    const uint64_t size_bytes = memory_.UnsharedBytes(address, rest_bytes, buffer.direction);
    if (size_bytes == 0) return End(buffer, Status::kDataTransferError);
    return Begin<&UnsharedData::OnPieceMoved>(buffer, {address, size_bytes}, here,
                                              buffer.direction);
  }
  End(buffer, Status::kSuccess);
}

void UnsharedData::OnPieceMoved(UnsharedBuffer& buffer, bool ok) {
  if (!ok) return End(buffer, Status::kDataTransferError);
  Advance(buffer, buffer.bytes.size());
  MovePieces(buffer);
}

}  // namespace sma::storage_target::nvmf::vfio_user
