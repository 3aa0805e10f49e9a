#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>

#include "target/vfio_user/dma_map.h"
#include "target/vfio_user/message_socket.h"
#include "target/vfio_user/version.h"

namespace sma::target::vfio_user {

/// Bytes that move between this process and memory that the client does not share.
struct DmaTransfer {
  uint64_t address = 0;        // the client's
  std::span<std::byte> bytes;  // here; they stay until the transfer ends
  DmaAccessMode mode = DmaAccessMode::kRead;
  /// Called once, unless the transfer is cancelled, perhaps within Begin. `ok` false: the client
  /// has refused or answered what is no answer, or the memory is not mapped for such an access.
  void (*done)(DmaTransfer& transfer, bool ok) = nullptr;

  // DmaMessages'.
  size_t moved_bytes = 0;
  DmaTransfer* next = nullptr;
};

/// Transfers by messages to the client (vfio-user "VFIO_USER_DMA_READ", "VFIO_USER_DMA_WRITE"), in
/// the order they come, in pieces that the client takes. One message is under way at a time: a
/// client that answers late, or never, holds nothing here but that. Allocates nothing. One
/// thread's.
class DmaMessages {
 public:
  /// `on_broken` is called when the client does not take a message. Socket and memory outlive this.
  DmaMessages(MessageSocket& socket, const DmaMap& memory, std::function<void()> on_broken)
      : socket_(socket), memory_(memory), on_broken_(std::move(on_broken)) {}

  /// The client's limit for the data of one message; 0: it takes none.
  void SetMaxTransfer(uint64_t bytes);

  void Begin(DmaTransfer& transfer);
  /// One that has begun and not ended: its bytes are not touched any more. The answer to a message
  /// that is under way for it is passed over when it comes.
  void Cancel(DmaTransfer& transfer);
  /// Takes an answer of the client's. False: it answers no message.
  bool OnReply(const Message& reply);
  /// The client is gone: nothing is sent any more, and what has not ended only waits to be
  /// cancelled.
  void Stop() { stopped_ = true; }

 private:
  void Send();
  bool SendPiece(DmaTransfer& transfer);
  bool TakePiece(const Message& reply, DmaTransfer& transfer) const;
  void Finish(DmaTransfer& transfer, bool ok);

  MessageSocket& socket_;
  const DmaMap& memory_;
  const std::function<void()> on_broken_;
  uint64_t max_piece_bytes_ = kMaxTransferBytes;
  bool stopped_ = false;
  bool sending_ = false;
  DmaTransfer* head_ = nullptr;
  DmaTransfer** tail_ = &head_;
  // The message under way: for the transfer at the head, or for one that was cancelled.
  bool waiting_ = false;
  DmaTransfer* asked_for_ = nullptr;
  uint16_t message_id_ = 0;
  size_t piece_bytes_ = 0;
};

}  // namespace sma::target::vfio_user
