#include "target/bdev_modules/nvme/initiator/queue_pair.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace sma::target::initiator {
namespace {

// Data that the capsule of a Fabrics or admin command may have (NVMe/TCP 1.0 §3.3.1, "in-capsule
// data").
constexpr uint32_t kAdminInCapsuleBytes = 8192;

nvme::Completion MakeCompletion(uint16_t cid, nvme::Status status) {
  return {.cid = cid, .status = nvme::StatusField(status)};
}

nvme::Completion MakeLostCompletion(uint16_t cid) {
  nvme::Completion completion = MakeCompletion(cid, nvme::Status::kHostPathingError);
  completion.sq_id = kLostConnectionSqId;
  return completion;
}

}  // namespace

QueuePair::QueuePair(const Options& options)
    : options_(options),
      slots_(static_cast<uint16_t>(options.entries - 1)),
      sender_(slots_, agreement_, *this),
      receiver_(agreement_, *this) {}

QueuePair::~QueuePair() { Close("destroyed"); }

QueuePair::AbortResult QueuePair::Abort(Request& request, uint16_t* cid) {
  if (waiting_.Remove(request)) {
    --outstanding_;
    return AbortResult::kWithdrawn;
  }
  std::optional<uint16_t> found = slots_.CidOf(request);
  if (!found) return AbortResult::kNotHere;
  if (std::exchange(slots_[*found].abort_pending, true)) return AbortResult::kAsked;
  *cid = *found;
  return AbortResult::kSent;
}

void QueuePair::EndAbort(uint16_t cid) {
  slots_.EndAbort(cid);
  if (!closed()) BeginWaiting();
}

// A CID may be free now.
void QueuePair::BeginWaiting() {
  while (!slots_.full()) {
    Request* next = waiting_.Pop();
    if (next == nullptr) return;
    Begin(*next);
  }
}

bool QueuePair::Submit(Request& request) {
  if (state_ != State::kReady) return false;
  Enqueue(request);
  return true;
}

void QueuePair::Enqueue(Request& request) {
  ++outstanding_;
  if (slots_.full()) {
    waiting_.Push(request);
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
  if (error != 0 && !blocked_) Close(std::string("cannot send: ") + std::strerror(-error));
}

bool QueuePair::Receive() {
  if (closed()) return false;
  if (state_ == State::kConnecting) return FinishTcpConnect();
  int64_t received = receiver_.Receive(fd_.get());
  if (closed()) return true;
  if (receiver_.fault()) {
    FailProtocol(receiver_.fault());
  } else if (received == 0) {
    Close("closed by the remote side");
  } else if (received < 0 && received != -EAGAIN) {
    Close(std::string("cannot receive: ") + std::strerror(static_cast<int>(-received)));
  }
  return received != -EAGAIN;
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
  Close("the remote side ended the connection with error " +
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

// The controller is done with the command.
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
  // The commands are sent again on another connection, and must not reach the controller after
  // those of then.
  if (options_.queue_id != 0 && outstanding_ > 0) ResetConnection();
  if (fd_) shutdown(fd_.get(), SHUT_RDWR);
  EndAll();
}

// Has the kernel drop what it has not yet sent, and send an RST (tcp(7), connect(2) with
// AF_UNSPEC).
void QueuePair::ResetConnection() {
  sockaddr none{};
  none.sa_family = AF_UNSPEC;
  if (fd_) static_cast<void>(connect(fd_.get(), &none, sizeof none));
}

void QueuePair::EndAll() {
  while (Request* request = waiting_.Pop()) {
    --outstanding_;
    request->done(*request, MakeLostCompletion(0));
  }
  for (uint16_t cid = 0; cid < slots_.size(); ++cid) {
    Slot* slot = slots_.Find(cid);
    if (slot == nullptr) continue;
    Finish(cid, slot->answered ? slot->completion : MakeLostCompletion(cid));
  }
}

// Tells the remote side why, if it can be told at once (NVMe/TCP 1.0 §3.5, "fatal error").
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

}  // namespace sma::target::initiator
