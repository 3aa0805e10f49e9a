// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>

#include "base/intrusive_list.h"
#include "storage_target/vfio_user/dma_map.h"
#include "storage_target/vfio_user/message_socket.h"
#include "storage_target/vfio_user/version.h"

namespace sma::storage_target::vfio_user {

/// A transfer between this process and memory that the client does not share.
struct DmaTransfer {
  uint64_t address = 0;        // in the client's address space
  std::span<std::byte> bytes;  // local buffer; must stay valid until the transfer ends
  DmaAccessMode mode = DmaAccessMode::kRead;
  /// Called once, unless the transfer is cancelled; possibly from within Begin. `ok` is false if
  /// the client refused or sent an invalid reply, or if the memory is not mapped for this access.
  void (*done)(DmaTransfer& transfer, bool ok) = nullptr;

  // Used only by DmaMessages.
  size_t moved_bytes = 0;
  DmaTransfer* next = nullptr;
};

/// Transfers data with messages to the client (vfio-user "VFIO_USER_DMA_READ",
/// "VFIO_USER_DMA_WRITE"), in order, in pieces of at most the client's limit. One message is
/// outstanding at a time, so a client that replies late, or never, delays only its own transfers.
/// Does not allocate. Not thread-safe.
class DmaMessages {
 public:
  /// Calls `on_broken` if a message cannot be sent to the client. `socket` and `memory` must
  /// outlive this object.
  DmaMessages(MessageSocket& socket, const DmaMap& memory, std::function<void()> on_broken)
      : socket_(socket), memory_(memory), on_broken_(std::move(on_broken)) {}

  /// Returns the client's connection.
  int socket() const { return socket_.fd(); }
  /// Sets the client's limit for the data of one message; 0: the client accepts none.
  void SetMaxTransfer(uint64_t bytes);

  void Begin(DmaTransfer& transfer);
  /// Cancels a transfer that has begun but not ended; its buffer is no longer accessed. The reply
  /// to an outstanding message for it is ignored.
  void Cancel(DmaTransfer& transfer);
  /// Handles a reply of the client. Returns false if it does not belong to any message.
  bool OnReply(const Message& reply);
  /// Must be called when the client has disconnected: nothing is sent any more, and the remaining
  /// transfers can only be cancelled.
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
  base::IntrusiveQueue<DmaTransfer> transfers_;
  // The outstanding message: for the first transfer, or for one that was
  // cancelled.
  bool waiting_ = false;
  DmaTransfer* awaited_ = nullptr;
  uint16_t message_id_ = 0;
  size_t piece_bytes_ = 0;
};

}  // namespace sma::storage_target::vfio_user
