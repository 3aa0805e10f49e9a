// Connection: from bytes to commands.

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include "spdlog/spdlog.h"
#include "target/nvmf/tcp/connection.h"
#include "target/nvmf/tcp/poll_group.h"
#include "target/reactor/reactor.h"

namespace sma::target::nvmf::tcp {

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

// The in-capsule data that an admin queue takes (NVMe/TCP 1.0 §3.3.2.2 "8,192 bytes").
constexpr uint32_t kAdminInCapsuleSize = 8192;
// While more than this is expected for one command, the input buffer takes little at once, so that
// most of the data are received straight where they belong.
constexpr uint32_t kLargeData = 32768;
constexpr size_t kInputBeforeLargeData = 8192;

// What is read after so long may be older than a reset: this thread, or the process, was held up.
constexpr uint64_t kUnwatchedNs = 1'000'000;

constexpr Fault kUnknownTag{FatalError::kInvalidHeaderField, offsetof(DataPdu, ttag)};

// Reactor::now_ns() as it is now, not as it was when this round of the loop began.
uint64_t ClockNs() {
  return static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
}

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
  uint64_t unwatched_since_ns = std::exchange(last_look_ns_, reactor().now_ns());
  if (got <= 0) return OnNothingReceived(got);
  if (ClockNs() - unwatched_since_ns > kUnwatchedNs && IsReset()) return CloseSocket(), true;
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

// The host has given up what it had sent before, and may have gone on elsewhere.
bool Connection::IsReset() const {
  pollfd state{.fd = fd_.get(), .events = 0, .revents = 0};
  return ::poll(&state, 1, 0) > 0 && (state.revents & (POLLHUP | POLLERR)) != 0;
}

bool Connection::OnNothingReceived(ssize_t got) {
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  if (got < 0) spdlog::info("{}: {}", Name(), std::strerror(errno));
  CloseSocket();
  return true;
}

void Connection::Parse() {
  if (terminating_) input_.Clear();
  while (!closed() && !terminating_ && (incoming_.request != nullptr ? ParseData() : ParsePdu())) {
  }
  if (!closed()) input_.Compact();
}

// Takes one PDU from the input; of H2CData, its header. False: there is none yet, or it has to
// wait.
bool Connection::ParsePdu() {
  CommonHeader header;
  if (input_.size() < sizeof header) return false;
  std::memcpy(&header, input_.data(), sizeof header);
  Layout layout;
  if (Fault fault = nvme::tcp::CheckHeader(header, true, agreement_, layout))
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

// False: the PDU has to wait, or ends the connection.
bool Connection::HandlePdu(const CommonHeader& header, const Layout& layout) {
  switch (header.type) {
    case PduType::kIcReq:
      return HandleIcReq();
    case PduType::kCapsuleCmd:
      return HandleCapsule(layout);
    case PduType::kH2cData:
      return HandleH2cData(layout);
    default: {  // H2CTermReq, the only other that passes the check
      nvme::tcp::TermReq request;
      std::memcpy(&request, input_.data(), sizeof request);
      spdlog::warn("{}: the host ends the connection, FES {:#x} FEI {:#x}", Name(),
                   static_cast<int>(request.fes), request.fei_high << 16 | request.fei_low);
      CloseSocket();
      return false;
    }
  }
}

bool Connection::HandleIcReq() {
  IcReq request;
  std::memcpy(&request, input_.data(), sizeof request);
  if (Fault fault = nvme::tcp::CheckIcReq(request)) return Terminate(fault), false;
  agreement_ = {.initialized = true,
                .header_digest = (request.digests & nvme::tcp::kDigestHeader) != 0,
                .data_digest = (request.digests & nvme::tcp::kDigestData) != 0,
                .hpda = request.hpda,
                .cpda = 0,
                .maxh2cdata = limits().max_io_size,
                .max_in_capsule = kAdminInCapsuleSize};  // until it is known what queue this is
  set_reads_in_place(!agreement_.data_digest);
  SendIcResp(request.digests & (nvme::tcp::kDigestHeader | nvme::tcp::kDigestData));
  return true;
}

bool Connection::HandleCapsule(const Layout& layout) {
  TcpRequest* request = AllocateRequest();
  if (request == nullptr) {
    stalled_ = true;  // the host sends more than its queue holds
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

// Where the command's data are or go (NVMe/TCP 1.0 §3.3.2.1): in the capsule or in PDUs of their
// own.
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
  if (pdu.ttag >= request_count_) return kUnknownTag;
  const TcpRequest& request = RequestAt(pdu.ttag);
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
  incoming_.request = &RequestAt(pdu.ttag);
  incoming_.left = pdu.data_length;
  incoming_.digest = layout.data_digest;
  incoming_.crc = {};
  return true;
}

// The next `size_bytes` of the data of the present H2CData PDU are where they belong.
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

// Takes what the input has of the data and the digest of an H2CData PDU. False: not all is there.
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

// Ends the connection for a fault of the host (NVMe/TCP 1.0 §3.5): a TermReq, then the host closes.
void Connection::Terminate(Fault fault) {
  spdlog::warn("{}: ending the connection, FES {:#x} FEI {:#x}", Name(),
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

}  // namespace sma::target::nvmf::tcp
