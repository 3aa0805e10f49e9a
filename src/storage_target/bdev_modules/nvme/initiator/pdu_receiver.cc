// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/nvme/initiator/pdu_receiver.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace sma::storage_target::initiator {
namespace {

using nvme::tcp::CommonHeader;
using nvme::tcp::FatalError;
using nvme::tcp::Fault;
using nvme::tcp::kDigestSize;
using nvme::tcp::PduType;

template <typename Pdu>
Pdu Load(const std::byte* bytes) {
  Pdu pdu;
  std::memcpy(&pdu, bytes, sizeof pdu);
  return pdu;
}

// Returns true if the PDU has a wrong header digest; `digest` is set to the received value.
bool HeaderDigestWrong(const std::byte* pdu, const CommonHeader& header, uint32_t& digest) {
  if ((header.flags & nvme::tcp::kFlagHeaderDigest) == 0 || header.type == PduType::kC2hTermReq) {
    return false;
  }
  std::memcpy(&digest, pdu + header.hlen, kDigestSize);
  return digest != nvme::Crc32c::Of(pdu, header.hlen);
}

}  // namespace

PduReceiver::PduReceiver(const nvme::tcp::NegotiatedParams& negotiated, Handler& handler)
    : negotiated_(negotiated),
      handler_(handler),
      buffer_(std::make_unique_for_overwrite<std::byte[]>(kBufferBytes)) {}

int64_t PduReceiver::Receive(int fd) {
  int64_t received = ReadSocket(fd);
  if (received > 0) Handle();
  return received;
}

int64_t PduReceiver::ReadSocket(int fd) {
  // The remaining bytes in the buffer are a part of a header.
  if (begin_ > 0) {
    std::memmove(buffer_.get(), buffer_.get() + begin_, available());
    end_ = available();
    begin_ = 0;
  }
  std::array<iovec, kMaxDirectIovs + 1> iovs;
  size_t iov_count = 0;
  size_t direct_bytes = 0;
  if (data_left_bytes_ > 0) {
    IovCursor ahead = *place_;
    while (iov_count < kMaxDirectIovs && direct_bytes < data_left_bytes_) {
      std::span<std::byte> piece = ahead.Take(data_left_bytes_ - direct_bytes);
      iovs[iov_count++] = {piece.data(), piece.size()};
      direct_bytes += piece.size();
    }
  }
  if (direct_bytes == data_left_bytes_) {
    bool large = in_data_ && data_pdu_.data_length >= kLargeDataBytes;
    iovs[iov_count++] = {buffer_.get() + end_, large ? kTailBytes : kBufferBytes - end_};
  }
  msghdr message{};
  message.msg_iov = iovs.data();
  message.msg_iovlen = iov_count;
  ssize_t received = recvmsg(fd, &message, MSG_DONTWAIT);
  if (received < 0) return errno == EWOULDBLOCK || errno == EINTR ? -EAGAIN : -errno;
  size_t direct = std::min(static_cast<size_t>(received), direct_bytes);
  AccountDirect(direct);
  end_ += static_cast<size_t>(received) - direct;
  return received;
}

// Accounts for `size_bytes` that were read directly to the data's destination.
void PduReceiver::AccountDirect(size_t size_bytes) {
  data_left_bytes_ -= static_cast<uint32_t>(size_bytes);
  if (size_bytes == 0) return;
  place_->ForEach(size_bytes, [this](std::span<std::byte> piece) {
    if (negotiated_.data_digest) data_crc_.Update(piece.data(), piece.size());
  });
}

void PduReceiver::Handle() {
  while (!stopped_ && !fault_) {
    if (!(in_data_ ? ContinueData() : HandlePdu())) return;
  }
}

bool PduReceiver::ContinueData() {
  size_t size = std::min<size_t>(data_left_bytes_, available());
  if (size > 0) {
    std::span<const std::byte> bytes(buffer_.get() + begin_, size);
    if (negotiated_.data_digest) data_crc_.Update(bytes.data(), size);
    place_->Write(bytes);
    begin_ += size;
    data_left_bytes_ -= static_cast<uint32_t>(size);
  }
  size_t digest_size = negotiated_.data_digest ? kDigestSize : 0;
  if (data_left_bytes_ > 0 || available() < digest_size) return false;

  bool intact = true;
  if (negotiated_.data_digest) {
    intact = Load<uint32_t>(buffer_.get() + begin_) == data_crc_.value();
    begin_ += kDigestSize;
  }
  in_data_ = false;
  handler_.OnDataEnd(data_pdu_, intact);
  return true;
}

bool PduReceiver::HandlePdu() {
  if (available() < sizeof(CommonHeader)) return false;
  const std::byte* pdu = buffer_.get() + begin_;
  auto header = Load<CommonHeader>(pdu);
  nvme::tcp::Layout layout;
  Fault fault = nvme::tcp::CheckHeader(header, /*from_host=*/false, negotiated_, layout);
  if (fault) {
    Fail(fault, pdu, sizeof header);
    return false;
  }
  // The number of bytes needed: the whole PDU, except for the data of a C2HData PDU.
  size_t needed = header.type == PduType::kC2hData ? layout.data_offset : layout.size;
  if (available() < needed) return false;
  if (uint32_t digest = 0; HeaderDigestWrong(pdu, header, digest)) {
    Fail({FatalError::kHeaderDigest, digest}, pdu, header.hlen);
    return false;
  }
  begin_ += needed;
  fault = Dispatch(pdu, layout);
  if (fault) Fail(fault, pdu, header.hlen);
  return true;
}

Fault PduReceiver::Dispatch(const std::byte* pdu, const nvme::tcp::Layout& layout) {
  switch (static_cast<PduType>(*pdu)) {
    case PduType::kIcResp:
      return handler_.OnIcResp(Load<nvme::tcp::IcResp>(pdu));
    case PduType::kCapsuleResp:
      return handler_.OnResponse(Load<nvme::tcp::CapsuleResp>(pdu).completion);
    case PduType::kR2t:
      return handler_.OnR2t(Load<nvme::tcp::R2t>(pdu));
    case PduType::kC2hData:
      return BeginData(pdu, layout);
    case PduType::kC2hTermReq:
      handler_.OnTermReq(Load<nvme::tcp::TermReq>(pdu));
      return {};
    default:
      return {FatalError::kInvalidHeaderField, offsetof(CommonHeader, type)};
  }
}

Fault PduReceiver::BeginData(const std::byte* pdu, const nvme::tcp::Layout& layout) {
  data_pdu_ = Load<nvme::tcp::DataPdu>(pdu);
  if (data_pdu_.data_length != layout.data_size || layout.data_size == 0) {
    return {FatalError::kInvalidHeaderField, offsetof(nvme::tcp::DataPdu, data_length)};
  }
  if (Fault fault = handler_.OnDataBegin(data_pdu_, &place_)) return fault;
  data_left_bytes_ = data_pdu_.data_length;
  data_crc_ = {};
  in_data_ = true;
  return {};
}

void PduReceiver::Fail(Fault fault, const std::byte* pdu, size_t size_bytes) {
  fault_ = fault;
  culprit_ = {pdu, size_bytes};
}

}  // namespace sma::storage_target::initiator
