// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/intrusive_list.h"
#include "storage_target/nvme/status.h"
#include "storage_target/nvmf/vfio_user/guest_pieces.h"
#include "storage_target/nvmf/vfio_user/memory_request.h"
#include "storage_target/vfio_user/dma_map.h"
#include "storage_target/vfio_user/dma_messages.h"

namespace sma::storage_target::nvmf::vfio_user {

class UnsharedData;

/// The buffer for the data of one command, between the bdev and the host.
struct UnsharedBuffer : storage_target::vfio_user::DmaTransfer {
  UnsharedData* owner = nullptr;
  std::unique_ptr<std::byte[]> memory;
  MemoryRequest* request = nullptr;
  UnsharedBuffer* next_free = nullptr;
  bool moving = false;
  storage_target::vfio_user::DmaAccessMode direction =
      storage_target::vfio_user::DmaAccessMode::kRead;
  FetchedLists lists;
  GuestPieces pieces;
  // The position of the transfer: the current piece, the offset in it, and the offset in the
  // buffer, in bytes.
  uint32_t piece = 0;
  uint64_t piece_offset = 0;
  uint64_t offset = 0;
};

/// Transfers the data of commands that use memory which the host does not share: with messages, to
/// and from buffers of this process. The shared parts of such data are copied. A command holds its
/// buffer from before its data is received until it has been sent. Commands without a buffer wait,
/// so a host that does not reply to messages delays only its own commands of this kind. Not
/// thread-safe; one object per function.
class UnsharedData {
 public:
  static constexpr uint32_t kBufferCount = 8;

  /// `max_bytes` is the maximum amount of data of a command.
  UnsharedData(const storage_target::vfio_user::DmaMap& memory, uint32_t max_bytes)
      : memory_(memory), max_bytes_(max_bytes) {}

  uint32_t max_bytes() const { return max_bytes_; }
  /// Sets the object that exchanges messages with the client; nullptr if there is no client.
  void SetMessages(storage_target::vfio_user::DmaMessages* messages) { messages_ = messages; }
  /// Allocates the buffers; must be called before a command can need one. Idempotent.
  void Prepare();

  /// Assigns a buffer to `request`, unless it has one, and points its iovs to the buffer. Returns
  /// false if the request must wait; TakeWaiting will return it later.
  bool Acquire(MemoryRequest& request);
  /// Returns the next waiting command, with a buffer; nullptr if no command is waiting or no buffer
  /// is free.
  MemoryRequest* TakeWaiting();
  bool has_waiting() const { return !waiting_.empty() && free_ != nullptr; }
  /// Transfers the command's data from the host (kRead) or to it, then calls
  /// SubmissionQueue::OnDataMoved, possibly before returning.
  void Move(MemoryRequest& request, storage_target::vfio_user::DmaAccessMode direction);
  /// Cancels a transfer without calling OnDataMoved. Returns false if there was none.
  bool CancelMove(MemoryRequest& request);
  /// Ends a request's wait for a buffer in constant time. Returns false if it was not waiting.
  bool CancelWait(MemoryRequest& request);
  /// Releases the command's buffer, if it has one.
  void Release(MemoryRequest& request);

 private:
  void Describe(UnsharedBuffer& buffer);
  void MovePieces(UnsharedBuffer& buffer);
  static void Advance(UnsharedBuffer& buffer, uint64_t size_bytes);
  template <void (UnsharedData::*kOnDone)(UnsharedBuffer&, bool)>
  void Begin(UnsharedBuffer& buffer, const GuestPiece& piece, std::byte* bytes,
             storage_target::vfio_user::DmaAccessMode mode);
  void OnListFetched(UnsharedBuffer& buffer, bool ok);
  void OnPieceMoved(UnsharedBuffer& buffer, bool ok);
  static void End(UnsharedBuffer& buffer, nvme::Status status);

  const storage_target::vfio_user::DmaMap& memory_;
  const uint32_t max_bytes_;
  storage_target::vfio_user::DmaMessages* messages_ = nullptr;
  std::unique_ptr<UnsharedBuffer[]> buffers_;
  UnsharedBuffer* free_ = nullptr;
  base::IntrusiveList<MemoryRequest> waiting_;
};

}  // namespace sma::storage_target::nvmf::vfio_user
