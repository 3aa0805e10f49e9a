#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "target/bdev_modules/nvme/initiator/send_batch.h"
#include "target/bdev_modules/nvme/initiator/slot.h"
#include "target/nvme/tcp_pdu.h"

namespace sma::target::initiator {

/// The sending half of an NVMe/TCP connection: puts together the PDUs of queued commands and of the
/// data that the controller asked for, many in one system call. Data go from the requests' own
/// memory.
class PduSender {
 public:
  /// Told of a request that was answered early, when no byte of it is in use here any more.
  class Owner {
   public:
    virtual ~Owner() = default;
    virtual void OnReleased(uint16_t cid) = 0;
  };

  /// Requests with more buffers than this do not go into the command's capsule.
  static constexpr uint32_t kMaxInCapsuleIovs = 16;

  PduSender(SlotTable& slots, const nvme::tcp::Agreement& agreement, Owner& owner)
      : slots_(slots), agreement_(agreement), owner_(owner) {}
  PduSender(const PduSender&) = delete;
  PduSender& operator=(const PduSender&) = delete;

  /// Bytes to send as they are, ahead of the queue; 256 at most, and only while nothing is under
  /// way.
  void PutRaw(std::span<const std::byte> bytes);

  /// Queues what the slot's `to_send` says: its CapsuleCmd, or the H2CData up to `r2t_end_bytes`.
  void Queue(uint16_t cid);

  /// Keeps an answered slot until its bytes are out of use; false when they are already.
  bool Hold(Slot& slot);

  /// True when there is nothing to send.
  bool idle() const { return head_ == kNone && batch_.empty(); }

  /// True unless a part of a PDU may have been sent and the rest not.
  bool between_pdus() const { return batch_.empty(); }

  /// Sends until nothing is left: 0; -EAGAIN when the socket takes no more now; another negative
  /// errno when it is broken.
  int Send(int fd);

  /// Forgets everything: the connection is over, and the requests' memory is no longer to be used.
  void Stop();

 private:
  static constexpr uint16_t kNone = 0xffff;
  // What one PDU takes beside its data: header with digest and padding up to 128 bytes, data
  // digest.
  static constexpr size_t kMaxPduHeaderBytes = 128 + nvme::tcp::kDigestSize;

  bool HasRoom() const {
    return batch_.header_room() >= kMaxPduHeaderBytes && batch_.iov_room() >= kMaxInCapsuleIovs + 2;
  }
  bool InBatch(const Slot& slot) const { return slot.batch == batch_number_ && !batch_.empty(); }

  void Compose();
  void PopFront();
  void AppendCommand(uint16_t cid, Slot& slot);
  void AppendData(uint16_t cid, Slot& slot);
  template <typename Pdu>
  void AppendPdu(Pdu& pdu, Slot& slot, uint32_t data_size);
  uint32_t FittingBytes(const Slot& slot, uint32_t limit_bytes) const;
  void EndBatch();

  SlotTable& slots_;
  const nvme::tcp::Agreement& agreement_;
  Owner& owner_;

  // Slots with something to send, linked through Slot::next.
  uint16_t head_ = kNone;
  uint16_t tail_ = kNone;

  SendBatch batch_;
  uint64_t batch_number_ = 1;
  uint32_t answered_in_batch_ = 0;
};

}  // namespace sma::target::initiator
