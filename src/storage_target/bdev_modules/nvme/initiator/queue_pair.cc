// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/nvme/initiator/queue_pair.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/reset_connection.h"

namespace sma::storage_target::initiator {
namespace {

// Maximum data in the capsule of a Fabrics or admin command (NVMe/TCP 1.0 §3.3.1, "in-capsule
// data").
constexpr uint32_t kAdminInCapsuleBytes = 8192;

nvme::Completion MakeCompletion(uint16_t cid, nvme::Status status) {
  return {.cid = cid, .status = nvme::StatusField(status)};
}

nvme::Completion MakeLostCompletion(uint16_t cid,
                                    nvme::Status status = nvme::Status::kHostPathingError) {
  nvme::Completion completion = MakeCompletion(cid, status);
  completion.sq_id = kLostConnectionSqId;
  return completion;
}

// Returns true if the error means that the remote side has ended the connection.
bool IsReset(int error) { return error == ECONNRESET || error == EPIPE; }

}  // namespace

QueuePair::QueuePair(const Options& options)
    : options_(options),
      slots_(static_cast<uint16_t>(options.entries - 1)),
      sender_(slots_, negotiated_, *this),
      receiver_(negotiated_, *this) {}

QueuePair::~QueuePair() {
  Close("destroyed");
  EndHeld();
}

QueuePair::AbortResult QueuePair::Abort(Request& request, uint16_t* cid) {
  return waiting_.Has(request) ? Withdraw(request) : AskToAbort(request, cid);
}

QueuePair::AbortResult QueuePair::Withdraw(Request& waiting) {
  waiting_.Remove(waiting);
  --outstanding_;
  return AbortResult::kWithdrawn;
}

QueuePair::AbortResult QueuePair::AskToAbort(const Request& request, uint16_t* cid) {
  std::optional<uint16_t> found = slots_.CidOf(request);
  if (!found) return AbortResult::kNotHere;
  if (std::exchange(slots_[*found].abort_pending, true)) return AbortResult::kAlreadySent;
  *cid = *found;
  return AbortResult::kSent;
}

void QueuePair::EndAbort(uint16_t cid) {
  slots_.EndAbort(cid);
  if (!closed()) BeginWaiting();
}

// Starts waiting commands, because a CID may now be free.
void QueuePair::BeginWaiting() {
  while (!slots_.full() && !waiting_.empty()) Begin(waiting_.TakeFirst());
}

bool QueuePair::Submit(Request& request) {
  if (state_ != State::kReady) return false;
  Enqueue(request);
  return true;
}

void QueuePair::Enqueue(Request& request) {
  ++outstanding_;
  if (slots_.full()) {
    waiting_.Append(request);
  } else {
    Begin(request);
  }
}

void QueuePair::Begin(Request& request) {
  SetDataPointer(request);
  uint16_t cid = slots_.Take(request);
  slots_[cid].submit_tick = tick_;
  slots_[cid].to_send = Slot::ToSend::kCommand;
  sender_.Queue(cid);
}

void QueuePair::SetDataPointer(Request& request) const {
  nvme::Command& command = request.command;
  bool fabrics = command.opcode == static_cast<uint8_t>(nvme::AdminOpcode::kFabrics);
  uint32_t limit =
      fabrics || options_.queue_id == 0 ? kAdminInCapsuleBytes : options_.in_capsule_bytes;
  bool in_capsule = TransferOf(command) == nvme::Transfer::kHostToController &&
                    request.data_bytes > 0 && request.data_bytes <= limit &&
                    request.iov_count <= PduSender::kMaxInCapsuleIovs;
  command.flags = nvme::kPsdtSgl;
  command.sgl = {
      .length = request.data_bytes,
      .type = in_capsule ? nvme::SglType::kDataBlockOffset : nvme::SglType::kTransportDataBlock};
}

void QueuePair::Flush() {
  if (closed() || state_ == State::kConnecting) return;
  int error = sender_.Send(fd_.get());
  blocked_ = error == -EAGAIN;
  if (error != 0 && !blocked_) CloseAfterError("cannot send: ", -error);
}

bool QueuePair::Receive() {
  if (closed()) return false;
  if (state_ == State::kConnecting) return FinishTcpConnect();
  int64_t received = receiver_.Receive(fd_.get());
  if (closed()) return true;
  if (receiver_.fault()) {
    FailProtocol(receiver_.fault());
  } else if (received == 0) {
    peer_closed_ = true;
    Close("closed by the remote side");
  } else if (received < 0 && received != -EAGAIN) {
    CloseAfterError("cannot receive: ", static_cast<int>(-received));
  }
  return received != -EAGAIN;
}

// The kernel reports an error only once; afterwards the socket looks closed by the remote side.
void QueuePair::CloseAfterError(const char* what, int error) {
  (IsReset(error) ? peer_closed_ : peer_unknown_) = true;
  Close(std::string(what) + std::strerror(error));
}

nvme::tcp::Fault QueuePair::OnResponse(const nvme::Completion& completion) {
  Slot* slot = slots_.Find(completion.cid);
  if (slot == nullptr || slot->answered || slot->to_send == Slot::ToSend::kCommand) {
    return {nvme::tcp::FatalError::kInvalidHeaderField,
            offsetof(nvme::tcp::CapsuleResp, completion) + offsetof(nvme::Completion, cid)};
  }
  nvme::Completion answer = completion;
  answer.sq_id = 0;  // see kLostConnectionSqId
  Answer(completion.cid, answer);
  return {};
}

nvme::tcp::Fault QueuePair::OnR2t(const nvme::tcp::R2t& pdu) {
  Slot* slot = slots_.Find(pdu.cccid);
  if (slot == nullptr || slot->answered || slot->to_send == Slot::ToSend::kCommand ||
      slot->transfer() != nvme::Transfer::kHostToController) {
    return {nvme::tcp::FatalError::kInvalidHeaderField, offsetof(nvme::tcp::R2t, cccid)};
  }
  if (slot->to_send == Slot::ToSend::kData) {
    return {nvme::tcp::FatalError::kDataLimitExceeded, 0};
  }
  uint32_t left = slot->request->data_bytes - slot->moved_bytes;
  if (pdu.offset != slot->moved_bytes || pdu.length == 0 || pdu.length > left) {
    return {nvme::tcp::FatalError::kDataOutOfRange, 0};
  }
  slot->ttag = pdu.ttag;
  slot->r2t_end_bytes = pdu.offset + pdu.length;
  slot->to_send = Slot::ToSend::kData;
  sender_.Queue(pdu.cccid);
  return {};
}

void QueuePair::OnTermReq(const nvme::tcp::TermReq& pdu) {
  Close("the remote side terminated the connection with error " +
        std::to_string(static_cast<unsigned>(pdu.fes)));
}

nvme::tcp::Fault QueuePair::OnDataBegin(const nvme::tcp::DataPdu& pdu, IovCursor** place) {
  Slot* slot = slots_.Find(pdu.cccid);
  if (slot == nullptr || slot->answered || slot->to_send == Slot::ToSend::kCommand ||
      slot->transfer() != nvme::Transfer::kControllerToHost) {
    return {nvme::tcp::FatalError::kInvalidHeaderField, offsetof(nvme::tcp::DataPdu, cccid)};
  }
  uint32_t left = slot->request->data_bytes - slot->moved_bytes;
  if (pdu.data_offset != slot->moved_bytes || pdu.data_length > left) {
    return {nvme::tcp::FatalError::kDataOutOfRange, 0};
  }
  slot->moved_bytes += pdu.data_length;
  *place = &slot->cursor;
  return {};
}

void QueuePair::OnDataEnd(const nvme::tcp::DataPdu& pdu, bool intact) {
  Slot& slot = slots_[pdu.cccid];
  if (!intact) slot.data_digest_failed = true;
  if ((pdu.header.flags & nvme::tcp::kFlagSuccess) != 0) {
    Answer(pdu.cccid, MakeCompletion(pdu.cccid, nvme::Status::kSuccess));
  }
}

// Handles a command that the controller has completed.
void QueuePair::Answer(uint16_t cid, nvme::Completion completion) {
  Slot& slot = slots_[cid];
  if (nvme::StatusOf(completion.status) == nvme::Status::kSuccess &&
      slot.transfer() == nvme::Transfer::kControllerToHost) {
    if (slot.data_digest_failed) {
      completion = MakeCompletion(cid, nvme::Status::kTransientTransportError);
    } else if (slot.moved_bytes != slot.request->data_bytes) {
      completion = MakeCompletion(cid, nvme::Status::kDataTransferError);
    }
  }
  if (!sender_.Hold(slot)) {
    Finish(cid, completion);
    return;
  }
  slot.answered = true;
  slot.completion = completion;
}

void QueuePair::OnReleased(uint16_t cid) {
  nvme::Completion completion = slots_[cid].completion;
  Finish(cid, completion);
}

void QueuePair::Finish(uint16_t cid, const nvme::Completion& completion) {
  Request& request = *slots_[cid].request;
  slots_.Free(cid);
  --outstanding_;
  if (!waiting_.empty()) BeginWaiting();
  request.done(request, completion);
}

void QueuePair::Close(const std::string& reason) {
  if (closed()) return;
  state_ = State::kClosed;
  close_reason_ = reason;
  blocked_ = false;
  receiver_.Stop();
  sender_.Stop();
  HoldSentWrites();
  // The commands are sent again on another connection. The old copies must not reach the controller
  // after the new ones do. Held commands may still reach it; the end of the stream follows them,
  // and the controller confirms it by closing the connection.
  if (held_ == 0 && options_.queue_id != 0 && outstanding_ > 0) base::ResetConnection(fd_.get());
  if (fd_) shutdown(fd_.get(), held_ > 0 ? SHUT_WR : SHUT_RDWR);
  EndAll();
}

void QueuePair::HoldSentWrites() {
  if (!options_.hold_sent_writes || peer_closed_) return;
  for (uint16_t cid = 0; cid < slots_.size(); ++cid) {
    Slot* slot = slots_.Find(cid);
    if (slot == nullptr || slot->request == &connect_ || !slot->may_execute()) continue;
    if (!ChangesData(slot->request->command)) continue;
    slot->held = true;
    ++held_;
  }
}

bool QueuePair::AwaitPeer() {
  std::array<std::byte, 4096> discarded;
  while (!peer_closed_ && !peer_unknown_) {
    ssize_t received = recv(fd_.get(), discarded.data(), discarded.size(), MSG_DONTWAIT);
    if (received > 0 || (received < 0 && errno == EINTR)) continue;
    if (received < 0 && errno == EAGAIN) return false;
    (received == 0 || IsReset(errno) ? peer_closed_ : peer_unknown_) = true;
  }
  return peer_closed_;
}

void QueuePair::EndHeld() {
  if (held_ == 0) return;
  base::ResetConnection(fd_.get());  // before the commands are sent elsewhere
  for (uint16_t cid = 0; cid < slots_.size() && held_ > 0; ++cid) {
    const Slot* slot = slots_.Find(cid);
    if (slot == nullptr || !slot->held) continue;
    --held_;
    Finish(cid, MakeLostCompletion(cid));
  }
}

void QueuePair::FailHeld(const std::function<bool(const Request& request)>& which,
                         nvme::Status status) {
  if (held_ == 0) return;
  for (uint16_t cid = 0; cid < slots_.size() && held_ > 0; ++cid) {
    const Slot* slot = slots_.Find(cid);
    if (slot == nullptr || !slot->held || !which(*slot->request)) continue;
    --held_;
    Finish(cid, MakeLostCompletion(cid, status));
  }
  if (held_ == 0) base::ResetConnection(fd_.get());
}

void QueuePair::EndAll() {
  while (!waiting_.empty()) {
    Request& request = waiting_.TakeFirst();
    --outstanding_;
    request.done(request, MakeLostCompletion(0));
  }
  for (uint16_t cid = 0; cid < slots_.size(); ++cid) {
    Slot* slot = slots_.Find(cid);
    if (slot == nullptr || slot->held) continue;
    Finish(cid, slot->answered ? slot->completion : MakeLostCompletion(cid));
  }
}

// Sends the reason to the remote side if that is possible without blocking (NVMe/TCP 1.0 §3.5,
// "fatal error").
void QueuePair::FailProtocol(const nvme::tcp::Fault& fault) {
  if (sender_.between_pdus()) {
    sender_.Stop();
    std::array<std::byte, nvme::tcp::kMaxTermReqSize> pdu;
    size_t size =
        nvme::tcp::WriteTermReq(nvme::tcp::PduType::kH2cTermReq, fault, receiver_.culprit(), pdu);
    sender_.PutRaw(std::span(pdu).first(size));
    Flush();
  }
  Close("protocol error " + std::to_string(static_cast<unsigned>(fault.fes)) +
        " in what the remote side sent");
}

uint32_t QueuePair::OldestAgeTicks(std::optional<nvme::AdminOpcode> except) {
  uint32_t oldest = 0;
  for (uint16_t cid = 0; cid < slots_.size(); ++cid) {
    Slot* slot = slots_.Find(cid);
    if (slot == nullptr) continue;
    if (except && slot->request->command.opcode == static_cast<uint8_t>(*except)) continue;
    oldest = std::max(oldest, tick_ - slot->submit_tick);
  }
  return oldest;
}

}  // namespace sma::storage_target::initiator
