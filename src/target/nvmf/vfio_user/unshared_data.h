#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "target/nvme/status.h"
#include "target/nvmf/vfio_user/guest_pieces.h"
#include "target/nvmf/vfio_user/memory_request.h"
#include "target/vfio_user/dma_map.h"
#include "target/vfio_user/dma_messages.h"

namespace sma::target::nvmf::vfio_user {

class UnsharedData;

/// The data of one command, between bdev and host.
struct UnsharedBuffer : target::vfio_user::DmaTransfer {
  UnsharedData* owner = nullptr;
  std::unique_ptr<std::byte[]> memory;
  MemoryRequest* request = nullptr;
  UnsharedBuffer* next_free = nullptr;
  bool moving = false;
  target::vfio_user::DmaAccessMode direction = target::vfio_user::DmaAccessMode::kRead;
  FetchedLists lists;
  GuestPieces pieces;
  // How far the data have moved.
  uint32_t piece = 0;
  uint64_t piece_offset = 0;
  uint64_t offset = 0;
};

/// Moves the data of commands that touch memory which the host does not share: by messages, to and
/// from buffers of this process. What is shared of such a command's data is copied. A command keeps
/// its buffer from before its data come until they have gone; those that find none wait, so that a
/// host which does not answer messages holds up nothing but its own commands of this kind. One
/// thread's, and one function's.
class UnsharedData {
 public:
  static constexpr uint32_t kBufferCount = 8;

  /// `max_bytes`: the most that one command may move.
  UnsharedData(const target::vfio_user::DmaMap& memory, uint32_t max_bytes)
      : memory_(memory), max_bytes_(max_bytes) {}

  uint32_t max_bytes() const { return max_bytes_; }
  /// nullptr: there is no client.
  void SetMessages(target::vfio_user::DmaMessages* messages) { messages_ = messages; }
  /// Makes the buffers; to be called before there can be a command that needs one. Again: nothing.
  void Prepare();

  /// Gives `request` a buffer, unless it has one, and points its iovs to that. False: it waits, and
  /// TakeWaiting gives it back.
  bool Acquire(MemoryRequest& request);
  /// The next command that waited, with a buffer; nullptr: none, or there is no buffer.
  MemoryRequest* TakeWaiting();
  bool has_waiting() const { return waiting_head_ != nullptr && free_ != nullptr; }
  /// Moves the command's data from the host (kRead) or to it, then calls
  /// SubmissionQueue::OnDataMoved, perhaps in here.
  void Move(MemoryRequest& request, target::vfio_user::DmaAccessMode direction);
  /// Ends a move, which is not told of any more. False: there was none.
  bool CancelMove(MemoryRequest& request);
  /// Ends a wait for a buffer. False: it did not wait.
  bool CancelWait(MemoryRequest& request);
  /// The command's buffer, if it has one, is free again.
  void Release(MemoryRequest& request);

 private:
  void Describe(UnsharedBuffer& buffer);
  void MovePieces(UnsharedBuffer& buffer);
  static void Advance(UnsharedBuffer& buffer, uint64_t size_bytes);
  template <void (UnsharedData::*kOnDone)(UnsharedBuffer&, bool)>
  void Begin(UnsharedBuffer& buffer, const GuestPiece& piece, std::byte* bytes,
             target::vfio_user::DmaAccessMode mode);
  void OnListFetched(UnsharedBuffer& buffer, bool ok);
  void OnPieceMoved(UnsharedBuffer& buffer, bool ok);
  static void End(UnsharedBuffer& buffer, nvme::Status status);

  const target::vfio_user::DmaMap& memory_;
  const uint32_t max_bytes_;
  target::vfio_user::DmaMessages* messages_ = nullptr;
  std::unique_ptr<UnsharedBuffer[]> buffers_;
  UnsharedBuffer* free_ = nullptr;
  MemoryRequest* waiting_head_ = nullptr;
  MemoryRequest** waiting_tail_ = &waiting_head_;
};

}  // namespace sma::target::nvmf::vfio_user
