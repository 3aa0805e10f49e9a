// SPDX-License-Identifier: Apache-2.0

#include "storage_target/vfio_user/dma_messages.h"

#include <algorithm>
#include <cstring>

namespace sma::storage_target::vfio_user {
namespace {

// The reply to DMA_WRITE may be empty (QEMU), or an address with a count of 32 bits (QEMU's
// specification) or of 64 bits.
constexpr size_t kShortAccessBytes = sizeof(uint64_t) + sizeof(uint32_t);

bool Describes(std::span<const std::byte> payload, uint64_t address, uint64_t count) {
  DmaAccess access;
  std::memcpy(&access, payload.data(), std::min(payload.size(), sizeof access));
  return access.address == address && access.count == count;
}

}  // namespace

void DmaMessages::SetMaxTransfer(uint64_t bytes) {
  max_piece_bytes_ = std::min<uint64_t>(bytes, kMaxTransferBytes);
}

void DmaMessages::Begin(DmaTransfer& transfer) {
  transfer.moved_bytes = 0;
  transfers_.Append(transfer);
  Send();
}

void DmaMessages::Cancel(DmaTransfer& transfer) {
  transfers_.Remove(transfer);
  if (awaited_ == &transfer) awaited_ = nullptr;
}

void DmaMessages::Finish(DmaTransfer& transfer, bool ok) {
  Cancel(transfer);
  transfer.done(transfer, ok);
}

void DmaMessages::Send() {
  if (std::exchange(sending_, true)) return;  // the caller below us on the stack continues
  while (!stopped_ && !waiting_ && !transfers_.empty()) {
    DmaTransfer& transfer = *transfers_.first();
    if (!SendPiece(transfer)) Finish(transfer, false);
  }
  sending_ = false;
}

// Returns false if no message can be sent for this memory.
bool DmaMessages::SendPiece(DmaTransfer& transfer) {
  const uint64_t address = transfer.address + transfer.moved_bytes;
  const std::span<std::byte> rest = transfer.bytes.subspan(transfer.moved_bytes);
  const uint64_t wanted = std::min<uint64_t>(rest.size(), max_piece_bytes_);
  piece_bytes_ = memory_.UnsharedBytes(address, wanted, transfer.mode);
  if (piece_bytes_ == 0) return false;
  const DmaAccess access{address, piece_bytes_};
  const bool reads = transfer.mode == DmaAccessMode::kRead;
  const std::span<const std::byte> data = reads ? std::span<std::byte>() : rest.first(piece_bytes_);
  Header header;
  header.message_id = ++message_id_;
  header.command = reads ? Command::kDmaRead : Command::kDmaWrite;
  header.message_bytes = static_cast<uint32_t>(sizeof header + sizeof access + data.size());
  waiting_ = true;
  awaited_ = &transfer;
  if (!socket_.Send(header, std::as_bytes(std::span(&access, 1)), data)) on_broken_();
  return true;
}

bool DmaMessages::OnReply(const Message& reply) {
  if (!waiting_ || reply.header.message_id != message_id_) return false;
  waiting_ = false;
  if (DmaTransfer* transfer = std::exchange(awaited_, nullptr); transfer != nullptr) {
    const bool ok = TakePiece(reply, *transfer);
    if (ok) transfer->moved_bytes += piece_bytes_;
    if (!ok || transfer->moved_bytes == transfer->bytes.size()) Finish(*transfer, ok);
  }
  Send();
  return true;
}

bool DmaMessages::TakePiece(const Message& reply, DmaTransfer& transfer) const {
  const bool reads = transfer.mode == DmaAccessMode::kRead;
  const Command command = reads ? Command::kDmaRead : Command::kDmaWrite;
  if ((reply.header.flags & kError) != 0 || reply.header.command != command) return false;
  const uint64_t address = transfer.address + transfer.moved_bytes;
  const std::span<const std::byte> payload = reply.payload;
  if (!reads) {
    const bool known = payload.size() == kShortAccessBytes || payload.size() == sizeof(DmaAccess);
    return payload.empty() || (known && Describes(payload, address, piece_bytes_));
  }
  if (payload.size() != sizeof(DmaAccess) + piece_bytes_) return false;
  if (!Describes(payload, address, piece_bytes_)) return false;
  std::memcpy(transfer.bytes.data() + transfer.moved_bytes, payload.data() + sizeof(DmaAccess),
              piece_bytes_);
  return true;
}

}  // namespace sma::storage_target::vfio_user
