#include "target/vfio_user/dma_messages.h"

#include <algorithm>
#include <cstring>

namespace sma::target::vfio_user {
namespace {

// What an answer to DMA_WRITE may consist of: nothing (QEMU), an address and a count of 32 bits (as
// its specification says), or one of 64.
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
  transfer.next = nullptr;
  *tail_ = &transfer;
  tail_ = &transfer.next;
  Send();
}

void DmaMessages::Cancel(DmaTransfer& transfer) {
  DmaTransfer** at = &head_;
  while (*at != &transfer) at = &(*at)->next;
  *at = transfer.next;
  if (tail_ == &transfer.next) tail_ = at;
  if (asked_for_ == &transfer) asked_for_ = nullptr;
}

void DmaMessages::Finish(DmaTransfer& transfer, bool ok) {
  Cancel(transfer);
  transfer.done(transfer, ok);
}

void DmaMessages::Send() {
  if (std::exchange(sending_, true)) return;  // whoever does that goes on
  while (!stopped_ && !waiting_ && head_ != nullptr) {
    if (!SendPiece(*head_)) Finish(*head_, false);
  }
  sending_ = false;
}

// False: there can be no message for this memory.
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
  asked_for_ = &transfer;
  if (!socket_.Send(header, std::as_bytes(std::span(&access, 1)), data)) on_broken_();
  return true;
}

bool DmaMessages::OnReply(const Message& reply) {
  if (!waiting_ || reply.header.message_id != message_id_) return false;
  waiting_ = false;
  if (DmaTransfer* transfer = std::exchange(asked_for_, nullptr); transfer != nullptr) {
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

}  // namespace sma::target::vfio_user
