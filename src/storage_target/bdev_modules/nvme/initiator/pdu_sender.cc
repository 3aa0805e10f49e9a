// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/nvme/initiator/pdu_sender.h"

#include <algorithm>
#include <cstring>

#include "storage_target/nvme/crc32c.h"

namespace sma::storage_target::initiator {

using nvme::tcp::CapsuleCmd;
using nvme::tcp::DataPdu;
using nvme::tcp::kDigestSize;
using nvme::tcp::Layout;
using nvme::tcp::PduType;

void PduSender::PutRaw(std::span<const std::byte> bytes) {
  std::memcpy(batch_.AppendHeader(bytes.size()), bytes.data(), bytes.size());
}

void PduSender::Queue(uint16_t cid) {
  slots_[cid].next = kNone;
  if (head_ == kNone) {
    head_ = cid;
  } else {
    slots_[tail_].next = cid;
  }
  tail_ = cid;
}

bool PduSender::Hold(Slot& slot) {
  if (slot.to_send != Slot::ToSend::kNothing) return true;  // PopFront releases it
  if (!InBatch(slot)) return false;
  ++answered_in_batch_;
  return true;
}

int PduSender::Send(int fd) {
  for (;;) {
    if (batch_.empty()) Compose();
    if (batch_.empty()) return 0;
    if (int error = batch_.Send(fd); error != 0) return error;
    EndBatch();
  }
}

void PduSender::Stop() {
  head_ = kNone;
  batch_.Clear();
}

void PduSender::Compose() {
  while (head_ != kNone && HasRoom()) {
    uint16_t cid = head_;
    Slot& slot = slots_[cid];
    if (slot.answered) {
      PopFront();
      if (!Hold(slot)) owner_.OnReleased(cid);
      continue;
    }
    slot.batch = batch_number_;
    if (slot.to_send == Slot::ToSend::kCommand) {
      AppendCommand(cid, slot);
      PopFront();
    } else {
      AppendData(cid, slot);
      if (slot.moved_bytes == slot.r2t_end_bytes) PopFront();
    }
  }
}

void PduSender::PopFront() {
  Slot& slot = slots_[head_];
  slot.to_send = Slot::ToSend::kNothing;
  head_ = slot.next;
}

void PduSender::AppendCommand(uint16_t cid, Slot& slot) {
  const Request& request = *slot.request;
  CapsuleCmd pdu;
  pdu.command = request.command;
  pdu.command.cid = cid;
  uint32_t in_capsule_bytes =
      pdu.command.sgl.type == nvme::SglType::kDataBlockOffset ? request.data_bytes : 0;
  pdu.header = nvme::tcp::MakeHeader(PduType::kCapsuleCmd, negotiated_, in_capsule_bytes);
  AppendPdu(pdu, slot, in_capsule_bytes);
}

void PduSender::AppendData(uint16_t cid, Slot& slot) {
  uint32_t left = slot.r2t_end_bytes - slot.moved_bytes;
  uint32_t size = FittingBytes(slot, std::min(left, negotiated_.maxh2cdata));
  DataPdu pdu;
  pdu.header = nvme::tcp::MakeHeader(PduType::kH2cData, negotiated_, size);
  if (size == left) pdu.header.flags |= nvme::tcp::kFlagLastPdu;
  pdu.cccid = cid;
  pdu.ttag = slot.ttag;
  pdu.data_offset = slot.moved_bytes;
  pdu.data_length = size;
  AppendPdu(pdu, slot, size);
}

template <typename Pdu>
void PduSender::AppendPdu(Pdu& pdu, Slot& slot, uint32_t data_size) {
  size_t header_size = sizeof(Pdu);
  size_t digest_size = negotiated_.header_digest ? kDigestSize : 0;
  size_t size = data_size > 0 ? pdu.header.pdo : header_size + digest_size;
  std::byte* header = batch_.AppendHeader(size);
  std::memcpy(header, &pdu, header_size);
  if (negotiated_.header_digest) {
    uint32_t digest = nvme::Crc32c::Of(header, header_size);
    std::memcpy(header + header_size, &digest, kDigestSize);
  }
  if (data_size == 0) return;

  nvme::Crc32c data_crc;
  slot.moved_bytes += data_size;
  slot.cursor.ForEach(data_size, [&](std::span<std::byte> piece) {
    batch_.AppendData(piece.data(), piece.size());
    if (negotiated_.data_digest) data_crc.Update(piece.data(), piece.size());
  });
  if (negotiated_.data_digest) {
    uint32_t digest = data_crc.value();
    std::memcpy(batch_.AppendHeader(kDigestSize), &digest, kDigestSize);
  }
}

uint32_t PduSender::FittingBytes(const Slot& slot, uint32_t limit_bytes) const {
  IovCursor cursor = slot.cursor;
  uint32_t size = 0;
  for (size_t iovs = batch_.iov_room() - 2; iovs > 0 && size < limit_bytes; --iovs) {
    size += static_cast<uint32_t>(cursor.Take(limit_bytes - size).size());
  }
  return size;
}

void PduSender::EndBatch() {
  ++batch_number_;
  if (answered_in_batch_ == 0) return;
  answered_in_batch_ = 0;
  for (uint16_t cid = 0; cid < slots_.size(); ++cid) {
    Slot* slot = slots_.Find(cid);
    if (slot != nullptr && slot->answered && slot->to_send == Slot::ToSend::kNothing) {
      owner_.OnReleased(cid);
    }
  }
}

}  // namespace sma::storage_target::initiator
