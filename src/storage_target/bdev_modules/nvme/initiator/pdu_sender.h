// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "storage_target/bdev_modules/nvme/initiator/send_batch.h"
#include "storage_target/bdev_modules/nvme/initiator/slot.h"
#include "storage_target/nvme/tcp_pdu.h"

namespace sma::storage_target::initiator {

/// The sending half of an NVMe/TCP connection: builds the PDUs of queued commands and of the data
/// requested by the controller, and sends many in one system call. Data are sent from the requests'
/// own memory.
class PduSender {
 public:
  /// Notified when a request that was answered early is no longer referenced by the sender.
  class Owner {
   public:
    virtual ~Owner() = default;
    virtual void OnReleased(uint16_t cid) = 0;
  };

  /// If a request has more buffers than this, its data are not sent in the command's capsule.
  static constexpr uint32_t kMaxInCapsuleIovs = 16;

  PduSender(SlotTable& slots, const nvme::tcp::NegotiatedParams& negotiated, Owner& owner)
      : slots_(slots), negotiated_(negotiated), owner_(owner) {}
  PduSender(const PduSender&) = delete;
  PduSender& operator=(const PduSender&) = delete;

  /// Sends `bytes` unchanged, before the queue; at most 256, and only while no send is in progress.
  void PutRaw(std::span<const std::byte> bytes);

  /// Queues what the slot's `to_send` specifies: its CapsuleCmd, or the H2CData up to
  /// `r2t_end_bytes`.
  void Queue(uint16_t cid);

  /// Keeps an answered slot until its bytes are no longer referenced. Returns false if they are not
  /// referenced now.
  bool Hold(Slot& slot);

  /// Returns true if there is nothing to send.
  bool idle() const { return head_ == kNone && batch_.empty(); }

  /// Returns false if a PDU may have been sent partially.
  bool between_pdus() const { return batch_.empty(); }

  /// Sends everything. Returns 0; or -EAGAIN if the socket accepts no more bytes at present; or
  /// another negative errno if it has failed.
  int Send(int fd);

  /// Drops everything. To be called when the connection has ended and the requests' memory must no
  /// longer be used.
  void Stop();

 private:
  static constexpr uint16_t kNone = 0xffff;
  // The maximum size of a PDU without its data: header with digest, padding up to 128 bytes, and
  // data digest.
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
  const nvme::tcp::NegotiatedParams& negotiated_;
  Owner& owner_;

  // Slots with something to send, linked by Slot::next.
  uint16_t head_ = kNone;
  uint16_t tail_ = kNone;

  SendBatch batch_;
  uint64_t batch_number_ = 1;
  uint32_t answered_in_batch_ = 0;
};

}  // namespace sma::storage_target::initiator
