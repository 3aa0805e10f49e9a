// SPDX-License-Identifier: Apache-2.0

// The receiving side of a Connection: converts bytes to commands.

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/peer_log.h"
#include "spdlog/spdlog.h"
#include "storage_target/nvmf/tcp/connection.h"
#include "storage_target/nvmf/tcp/poll_group.h"
#include "storage_target/reactor/reactor.h"

namespace sma::storage_target::nvmf::tcp {

using nvme::SglType;
using nvme::Status;
using nvme::tcp::CommonHeader;
using nvme::tcp::DataPdu;
using nvme::tcp::FatalError;
using nvme::tcp::Fault;
using nvme::tcp::IcReq;
using nvme::tcp::kDigestSize;
using nvme::tcp::Layout;
using nvme::tcp::PduType;

namespace {

// Maximum in-capsule data of an admin queue (NVMe/TCP 1.0 §3.3.2.2 "8,192 bytes").
constexpr uint32_t kAdminInCapsuleSize = 8192;
// While more data than this is expected for one command, reads to the input buffer are small, so
// that most of the data is received directly into its destination.
constexpr uint32_t kLargeData = 32768;
constexpr size_t kInputBeforeLargeData = 8192;

constexpr Fault kUnknownTag{FatalError::kInvalidHeaderField, offsetof(DataPdu, ttag)};

bool DigestMatches(const std::byte* digest, uint32_t value) {
  return std::memcmp(digest, &value, kDigestSize) == 0;
}

}  // namespace

bool Connection::Receive() {
  iovec pieces[2];
  int count = 0;
  if (incoming_.left > 0) {
    auto* data = static_cast<std::byte*>(incoming_.request->data_iov.iov_base);
    pieces[count++] = {data + incoming_.request->received_size, incoming_.left};
  }
  std::span<std::byte> room = input_.room();
  size_t limit = awaiting_large_data_ > 0 ? kInputBeforeLargeData : group_.input_limit();
  room = room.first(std::min(room.size(), limit));
  pieces[count++] = {room.data(), room.size()};
  ssize_t got = ::readv(fd_.get(), pieces, count);
  if (got <= 0) return OnNothingReceived(got);
  const uint64_t clock_ns = PeerWatch::ClockNs();
  // NVMe/TCP has no half-closed connections.
  if (!host_watch_.MayExecute(reactor().now_ns(), clock_ns)) return CloseSocket(), true;
  if (connected() && controller().IsExpired(clock_ns)) return CloseExpired(), true;
  last_receive_ns_ = reactor().now_ns();
  auto size = static_cast<size_t>(got);
  if (incoming_.left > 0) {
    size_t direct = std::min<size_t>(size, incoming_.left);
    TakeData(direct);
    size -= direct;
  }
  input_.Commit(size);
  Parse();
  return true;
}

void Connection::CloseExpired() {
  base::LogOfPeers().Log(spdlog::level::warn, Source(),
                         "{}: the association has ended, disconnecting", Name());
  CloseSocket();
}

bool Connection::OnNothingReceived(ssize_t got) {
  host_watch_.SawNothing(reactor().now_ns());
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  if (got < 0)
    base::LogOfPeers().Log(spdlog::level::info, Source(), "{}: {}", Name(), std::strerror(errno));
  CloseSocket();
  return true;
}

void Connection::Parse() {
  if (terminating_) input_.Clear();
  while (!closed() && !terminating_ && (incoming_.request != nullptr ? ParseData() : ParsePdu())) {
  }
  if (!closed()) input_.Compact();
}

// Parses one PDU from the input; of H2CData, only its header. Returns false if the PDU is
// incomplete or must wait.
bool Connection::ParsePdu() {
  CommonHeader header;
  if (input_.size() < sizeof header) return false;
  std::memcpy(&header, input_.data(), sizeof header);
  Layout layout;
  if (Fault fault = nvme::tcp::CheckHeader(header, true, negotiated_, layout))
    return Terminate(fault), false;
  uint32_t needed = header.type == PduType::kH2cData ? layout.data_offset : layout.size;
  if (input_.size() < needed) return false;
  if (layout.header_size > header.hlen) {
    uint32_t digest = nvme::Crc32c::Of(input_.data(), header.hlen);
    if (!DigestMatches(input_.data() + header.hlen, digest)) {
      uint32_t came;
      std::memcpy(&came, input_.data() + header.hlen, sizeof came);
      return Terminate({FatalError::kHeaderDigest, came}), false;
    }
  }
  if (!HandlePdu(header, layout)) return false;
  if (!closed()) input_.Consume(needed);
  return true;
}

// Returns false if the PDU has to wait or ends the connection.
bool Connection::HandlePdu(const CommonHeader& header, const Layout& layout) {
  switch (header.type) {
    case PduType::kIcReq:
      return HandleIcReq();
    case PduType::kCapsuleCmd:
      return HandleCapsule(layout);
    case PduType::kH2cData:
      return HandleH2cData(layout);
    default: {  // H2CTermReq, the only other type that passes the check
      nvme::tcp::TermReq request;
      std::memcpy(&request, input_.data(), sizeof request);
      base::LogOfPeers().Log(spdlog::level::warn, Source(),
                             "{}: the host terminated the connection, FES {:#x} FEI {:#x}", Name(),
                             static_cast<int>(request.fes),
                             request.fei_high << 16 | request.fei_low);
      CloseSocket();
      return false;
    }
  }
}

bool Connection::HandleIcReq() {
  IcReq request;
  std::memcpy(&request, input_.data(), sizeof request);
  if (Fault fault = nvme::tcp::CheckIcReq(request)) return Terminate(fault), false;
  negotiated_ = {.initialized = true,
                 .header_digest = (request.digests & nvme::tcp::kDigestHeader) != 0,
                 .data_digest = (request.digests & nvme::tcp::kDigestData) != 0,
                 .hpda = request.hpda,
                 .cpda = 0,
                 .maxh2cdata = limits().max_io_size,
                 .max_in_capsule = kAdminInCapsuleSize};  // until the queue type is known
  set_reads_in_place(!negotiated_.data_digest);
  SendIcResp(request.digests & (nvme::tcp::kDigestHeader | nvme::tcp::kDigestData));
  return true;
}

bool Connection::HandleCapsule(const Layout& layout) {
  TcpRequest* request = AllocateRequest();
  if (request == nullptr) {
    stalled_ = true;  // the host exceeds its queue depth
    UpdateWatch();
    return false;
  }
  const std::byte* pdu = input_.data();
  std::memcpy(&request->command, pdu + sizeof(CommonHeader), sizeof request->command);
  const std::byte* data = pdu + layout.data_offset;
  request->data_corrupt =
      layout.data_digest && layout.data_size > 0 &&
      !DigestMatches(data + layout.data_size, nvme::Crc32c::Of(data, layout.data_size));
  Status status = CheckSgl(*request, data, layout.data_size);
  if (status != Status::kSuccess) {
    Refuse(*request, status);
  } else {
    Start(*request);
  }
  return true;
}

// Determines whether the command's data are in the capsule or are transferred in separate PDUs
// (NVMe/TCP 1.0 §3.3.2.1).
Status Connection::CheckSgl(TcpRequest& request, const std::byte* capsule_data,
                            uint32_t capsule_size) {
  const nvme::Command& command = request.command;
  request.capsule_data = nullptr;
  request.host_size = command.sgl.length;
  if ((command.flags & nvme::kPsdtMask) != nvme::kPsdtSgl) return Status::kInvalidField;
  switch (command.sgl.type) {
    case SglType::kTransportDataBlock:
      return Status::kSuccess;
    case SglType::kDataBlockOffset:
      if (command.sgl.address > capsule_size) return Status::kInvalidSglOffset;
      if (command.sgl.length > capsule_size - command.sgl.address)
        return Status::kDataSglLengthInvalid;
      request.capsule_data = capsule_data + command.sgl.address;
      return Status::kSuccess;
    default:
      return command.sgl.length == 0 ? Status::kSuccess : Status::kSglDescriptorTypeInvalid;
  }
}

void Connection::ReceiveData(Request& base) {
  auto& request = static_cast<TcpRequest&>(base);
  if (request.capsule_data == nullptr) {
    if (AcquireBuffer(request)) SendR2t(request);
    return;
  }
  if (request.data_corrupt) return Complete(request, Status::kTransientTransportError);
  request.data_iov = {const_cast<std::byte*>(request.capsule_data), request.data_size};
  request.iovs = &request.data_iov;
  request.iov_count = 1;
  request.data_borrowed = true;
  Execute(request);
}

Fault Connection::CheckH2cData(const DataPdu& pdu, const Layout& layout) {
  if (pdu.ttag >= requests_.count()) return kUnknownTag;
  const TcpRequest& request = requests_.At(pdu.ttag);
  if (request.state != TcpRequest::State::kAwaitingData) return kUnknownTag;
  if (pdu.cccid != request.command.cid)
    return {FatalError::kInvalidHeaderField, offsetof(DataPdu, cccid)};
  if (pdu.data_length != layout.data_size || pdu.data_length == 0) {
    return {FatalError::kInvalidHeaderField, offsetof(DataPdu, data_length)};
  }
  if (pdu.data_offset != request.received_size) {
    bool inside = pdu.data_offset < request.data_size;
    return inside ? Fault{FatalError::kSequence, 0} : Fault{FatalError::kDataOutOfRange, 0};
  }
  uint32_t left = request.data_size - request.received_size;
  if (pdu.data_length > left) return {FatalError::kDataOutOfRange, 0};
  bool last = (pdu.header.flags & nvme::tcp::kFlagLastPdu) != 0;
  if (last != (pdu.data_length == left))
    return {FatalError::kInvalidHeaderField, offsetof(CommonHeader, flags)};
  return {};
}

bool Connection::HandleH2cData(const Layout& layout) {
  DataPdu pdu;
  std::memcpy(&pdu, input_.data(), sizeof pdu);
  if (Fault fault = CheckH2cData(pdu, layout)) return Terminate(fault), false;
  incoming_.request = &requests_.At(pdu.ttag);
  incoming_.left = pdu.data_length;
  incoming_.digest = layout.data_digest;
  incoming_.crc = {};
  return true;
}

// Records that the next `size_bytes` of the current H2CData PDU have been received into their
// destination.
void Connection::TakeData(size_t size_bytes) {
  TcpRequest& request = *incoming_.request;
  if (incoming_.digest) {
    incoming_.crc.Update(
        static_cast<const std::byte*>(request.data_iov.iov_base) + request.received_size,
        size_bytes);
  }
  request.received_size += static_cast<uint32_t>(size_bytes);
  incoming_.left -= static_cast<uint32_t>(size_bytes);
}

// Takes the data and the digest of an H2CData PDU from the input. Returns false if they are
// incomplete.
bool Connection::ParseData() {
  TcpRequest& request = *incoming_.request;
  if (incoming_.left > 0) {
    size_t size = std::min<size_t>(incoming_.left, input_.size());
    std::memcpy(static_cast<std::byte*>(request.data_iov.iov_base) + request.received_size,
                input_.data(), size);
    input_.Consume(size);
    TakeData(size);
    if (incoming_.left > 0) return false;
  }
  if (incoming_.digest) {
    if (input_.size() < kDigestSize) return false;
    if (!DigestMatches(input_.data(), incoming_.crc.value())) request.data_corrupt = true;
    input_.Consume(kDigestSize);
  }
  incoming_.request = nullptr;
  if (request.received_size == request.data_size) FinishData(request);
  return true;
}

void Connection::FinishData(TcpRequest& request) {
  SetAwaitingData(request, false);
  request.state = TcpRequest::State::kExecuting;
  if (request.data_corrupt) return Complete(request, Status::kTransientTransportError);
  Execute(request);
}

void Connection::SetAwaitingData(TcpRequest& request, bool awaiting) {
  int change = awaiting ? 1 : -1;
  awaiting_data_ += change;
  if (request.data_size >= kLargeData) awaiting_large_data_ += change;
}

// Ends the connection after a fatal error (NVMe/TCP 1.0 §3.5): sends a TermReq, after which the
// host closes.
void Connection::Terminate(Fault fault) {
  base::LogOfPeers().Log(spdlog::level::warn, Source(),
                         "{}: terminating the connection, FES {:#x} FEI {:#x}", Name(),
                         static_cast<int>(fault.fes), fault.fei);
  std::span<const std::byte> culprit = input_.bytes();
  uint8_t header_size = nvme::tcp::HeaderLength(static_cast<PduType>(culprit[0]));
  culprit = culprit.first(
      std::min<size_t>(culprit.size(), header_size == 0 ? sizeof(CommonHeader) : header_size));
  SendTermReq(fault, culprit);
  terminating_ = true;
  terminated_ns_ = reactor().now_ns();
  stalled_ = false;
  UpdateWatch();
}

}  // namespace sma::storage_target::nvmf::tcp
