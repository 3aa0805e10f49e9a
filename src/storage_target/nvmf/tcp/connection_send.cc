// SPDX-License-Identifier: Apache-2.0

// The sending side of a Connection: converts completions to bytes.

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/peer_log.h"
#include "spdlog/spdlog.h"
#include "storage_target/bdev/in_place.h"
#include "storage_target/nvmf/tcp/connection.h"
#include "storage_target/nvmf/tcp/poll_group.h"
#include "storage_target/reactor/reactor.h"

namespace sma::storage_target::nvmf::tcp {

using nvme::tcp::CapsuleResp;
using nvme::tcp::DataPdu;
using nvme::tcp::kDigestSize;
using nvme::tcp::Layout;
using nvme::tcp::PduType;

namespace {

// Maximum number of iovecs per system call.
constexpr size_t kMaxPieces = 512;

// Writes a PDU's header to `at`, with its digest if the layout has one, and zeroes up to the data.
template <typename Pdu>
void WriteHeader(const Pdu& pdu, const Layout& layout, std::byte* at) {
  std::memcpy(at, &pdu, sizeof pdu);
  std::memset(at + sizeof pdu, 0, layout.data_offset - sizeof pdu);
  if (layout.header_size > sizeof pdu) {
    uint32_t digest = nvme::Crc32c::Of(at, sizeof pdu);
    std::memcpy(at + sizeof pdu, &digest, kDigestSize);
  }
}

}  // namespace

void Connection::Respond(Request& base) {
  auto& request = static_cast<TcpRequest&>(base);
  if (terminating_) return FreeRequest(request);
  request.state = TcpRequest::State::kResponding;
  request.transfer_ns = reactor().now_ns();
  request.out.Clear();
  request.out.kind = Outgoing::Kind::kResponse;
  const nvme::Completion& completion = request.completion;
  bool success = nvme::StatusOf(completion.status) == nvme::Status::kSuccess;
  bool sends_data =
      success && request.transfer == nvme::Transfer::kControllerToHost && request.data_size > 0;
  // Success may be implied: hosts that need the submission queue head pointer of each capsule
  // disable c2h_success.
  bool implied =
      sends_data && group_.options().c2h_success && completion.dw0 == 0 && completion.dw1 == 0;
  std::byte* trailer = request.trailer.data();
  if (sends_data) trailer = AddData(request, implied);
  if (!implied) trailer = AddCapsule(completion, trailer);
  size_t trailer_size = static_cast<size_t>(trailer - request.trailer.data());
  if (trailer_size > 0) request.out.Add(request.trailer.data(), trailer_size);
  Send(request.out);
}

// Adds the C2HData PDU; returns the end of its data digest, if any, in the trailer.
std::byte* Connection::AddData(TcpRequest& request, bool implies_success) {
  DataPdu pdu;
  Layout layout;
  pdu.header = nvme::tcp::MakeHeader(PduType::kC2hData, negotiated_, request.data_size, &layout);
  pdu.header.flags |= nvme::tcp::kFlagLastPdu;
  if (implies_success) pdu.header.flags |= nvme::tcp::kFlagSuccess;
  pdu.cccid = request.command.cid;
  pdu.data_length = request.data_size;
  WriteHeader(pdu, layout, request.header.data());
  request.out.Add(request.header.data(), layout.data_offset);
  const iovec& data = request.iovs[0];
  request.out.Add(data.iov_base, data.iov_len);
  if (request.iovs == &request.in_place) request.out.blocks = Outgoing::Blocks::kInPlace;
  std::byte* trailer = request.trailer.data();
  if (!layout.data_digest) return trailer;
  uint32_t digest = nvme::Crc32c::Of(data.iov_base, data.iov_len);
  std::memcpy(trailer, &digest, kDigestSize);
  return trailer + kDigestSize;
}

// Writes the response capsule to `at`; returns its end.
std::byte* Connection::AddCapsule(const nvme::Completion& completion, std::byte* at) {
  CapsuleResp pdu;
  Layout layout;
  pdu.header = nvme::tcp::MakeHeader(PduType::kCapsuleResp, negotiated_, 0, &layout);
  pdu.completion = completion;
  WriteHeader(pdu, layout, at);
  return at + layout.size;
}

void Connection::SendR2t(TcpRequest& request) {
  if (terminating_) return FreeRequest(request);
  nvme::tcp::R2t pdu;
  Layout layout;
  pdu.header = nvme::tcp::MakeHeader(PduType::kR2t, negotiated_, 0, &layout);
  pdu.cccid = request.command.cid;
  pdu.ttag = request.index;
  pdu.length = request.data_size;
  WriteHeader(pdu, layout, request.header.data());
  request.state = TcpRequest::State::kSendingR2t;
  request.transfer_ns = reactor().now_ns();
  request.received_size = 0;
  request.data_corrupt = false;
  request.out.Clear();
  request.out.kind = Outgoing::Kind::kR2t;
  request.out.Add(request.header.data(), layout.size);
  Send(request.out);
}

void Connection::SendIcResp(uint8_t digests) {
  ic_resp_.digests = digests;
  ic_resp_.maxh2cdata = negotiated_.maxh2cdata;
  ic_resp_out_.kind = Outgoing::Kind::kOther;
  ic_resp_out_.Add(&ic_resp_, sizeof ic_resp_);
  Send(ic_resp_out_);
}

void Connection::SendTermReq(nvme::tcp::Fault fault, std::span<const std::byte> culprit) {
  size_t size = nvme::tcp::WriteTermReq(PduType::kC2hTermReq, fault, culprit, term_req_);
  term_req_out_.kind = Outgoing::Kind::kOther;
  term_req_out_.Add(term_req_.data(), size);
  Send(term_req_out_);
}

void Connection::Send(Outgoing& out) {
  if (out_.empty()) last_send_ns_ = reactor().now_ns();
  out_.Append(out);
  if (!blocked_) reactor().Defer(flush_);
}

void Connection::Flush() {
  if (closed() || blocked_) return;
  if (out_of_memory_) return CloseSocket();
  CheckInPlace();
  while (!out_.empty()) {
    if (!SendOnce()) return;
  }
  if (terminating_) ::shutdown(fd_.get(), SHUT_WR);
  if (stalled_ && requests_.has_free()) {
    stalled_ = false;
    UpdateWatch();
    Parse();
  }
}

// Sends with one system call; returns false if the socket buffer is full or the socket is closed.
bool Connection::SendOnce() {
  iovec pieces[kMaxPieces];
  size_t count = 0;
  for (Outgoing* out = out_.first(); out != nullptr && count + out->pieces.size() <= kMaxPieces;
       out = out->next) {
    if (out->blocks == Outgoing::Blocks::kCopied && CopyNextBlocks(*out)) {
      pieces[count++] = out->pieces[0];
      break;
    }
    for (uint8_t i = out->first; i < out->count; ++i) pieces[count++] = out->pieces[i];
  }
  msghdr message{};
  message.msg_iov = pieces;
  message.msg_iovlen = count;
  ssize_t sent = ::sendmsg(fd_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent < 0) {
    if (errno == EINTR) return true;
    if (errno == EAGAIN) {
      blocked_ = true;
      UpdateWatch();
      return false;
    }
    base::LogOfPeers().Log(spdlog::level::info, Source(), "{}: {}", Name(), std::strerror(errno));
    CloseSocket();
    return false;
  }
  last_send_ns_ = reactor().now_ns();
  Consume(static_cast<size_t>(sent));
  return true;
}

void Connection::Consume(size_t size_bytes) {
  while (!out_.empty()) {
    Outgoing& out = *out_.first();
    for (; out.first < out.count; ++out.first) {
      iovec& piece = out.pieces[out.first];
      if (size_bytes < piece.iov_len) {
        piece.iov_base = static_cast<std::byte*>(piece.iov_base) + size_bytes;
        piece.iov_len -= size_bytes;
        if (out.blocks == Outgoing::Blocks::kInPlace && out.first == 1) CopyPartialBlock(out);
        return;
      }
      size_bytes -= piece.iov_len;
    }
    OnSent(out_.TakeFirst());
  }
}

// Some of the blocks in place have been sent. If the last one has been sent only in part, the rest
// of it is copied to the request's slot immediately, so that a later write does not tear the block.
void Connection::CopyPartialBlock(Outgoing& out) {
  TcpRequest& request = *static_cast<TcpRequest::Out&>(out).request;
  const size_t block_size = size_t{1} << request.entry->info().block_shift;
  const size_t left = out.pieces[1].iov_len;
  const size_t sent_of_block = (request.in_place.iov_len - left) % block_size;
  if (sent_of_block == 0) return;
  const size_t size = std::min(block_size - sent_of_block, left);
  std::memcpy(request.slot, out.pieces[1].iov_base, size);
  SendFromSlot(request, size);
}

// Skips the next `size_bytes` of the blocks in place, whose contents the request's slot now holds,
// and sends them from the slot instead.
void Connection::SendFromSlot(TcpRequest& request, size_t size_bytes) {
  iovec& rest = request.out.pieces[1];
  rest.iov_base = static_cast<std::byte*>(rest.iov_base) + size_bytes;
  rest.iov_len -= size_bytes;
  request.out.pieces[0] = {request.slot, size_bytes};
  request.out.first = 0;
}

// Copies some of the blocks in place to the request's slot if the earlier contents of pieces[0]
// have been sent. Returns false if no blocks remain after pieces[0].
bool Connection::CopyNextBlocks(Outgoing& out) {
  const iovec& rest = out.pieces[1];
  if (out.first > 1) return false;
  if (out.first == 1 && rest.iov_len > 0) {
    TcpRequest& request = *static_cast<TcpRequest::Out&>(out).request;
    const size_t block_size = size_t{1} << request.entry->info().block_shift;
    const size_t size = std::min(slot_size_ / block_size * block_size, rest.iov_len);
    request.entry->channel().CopyOut(static_cast<const std::byte*>(rest.iov_base), request.slot,
                                     size);
    SendFromSlot(request, size);
  }
  return rest.iov_len > 0;
}

// The reactor may have done other work since the blocks were read: blocks that other reactors may
// write now are copied before they are sent.
void Connection::CheckInPlace() {
  if (revocations_ == bdev::InPlaceRevocations()) return;
  revocations_ = bdev::InPlaceRevocations();
  for (Outgoing* out = out_.first(); out != nullptr; out = out->next) {
    if (out->blocks != Outgoing::Blocks::kInPlace) continue;
    const TcpRequest& request = *static_cast<TcpRequest::Out&>(*out).request;
    if (!request.entry->channel().IsInPlace()) out->blocks = Outgoing::Blocks::kCopied;
  }
}

void Connection::OnSent(Outgoing& out) {
  if (out.kind == Outgoing::Kind::kOther) return;
  TcpRequest& request = *static_cast<TcpRequest::Out&>(out).request;
  if (out.kind == Outgoing::Kind::kResponse) return FreeRequest(request);
  request.state = TcpRequest::State::kAwaitingData;
  SetAwaitingData(request, true);
}

}  // namespace sma::storage_target::nvmf::tcp
