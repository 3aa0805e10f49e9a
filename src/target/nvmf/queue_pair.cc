#include "target/nvmf/queue_pair.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "target/nvmf/admin_commands.h"
#include "target/nvmf/fabrics_commands.h"
#include "target/nvmf/io_commands.h"
#include "target/nvmf/target.h"
#include "target/reactor/reactor.h"

namespace sma::target::nvmf {

using nvme::AdminOpcode;
using nvme::Status;
using nvme::Transfer;

namespace {

// Whether the same command would fail again whenever it is sent (NVMe Base 2.0 §3.3.3.2.1, "Do Not
// Retry").
bool IsPermanent(Status status) {
  switch (status) {
    case Status::kSuccess:
    case Status::kInternalError:
    case Status::kAbortRequested:
    case Status::kAbortedSqDeletion:
    case Status::kNamespaceNotReady:
    case Status::kCommandInterrupted:
    case Status::kTransientTransportError:
    case Status::kUnrecoveredReadError:
    case Status::kWriteFault:
    case Status::kConnectControllerBusy:
    // The subsystem may be made, the host be allowed, a moment later: after a restart of the
    // target, say.
    case Status::kConnectInvalidParameters:
    case Status::kConnectInvalidHost:
      return false;
    default:
      return true;
  }
}

// One thread writes.
void Add(std::atomic<uint64_t>& counter, int64_t change) {
  counter.store(counter.load(std::memory_order_relaxed) + static_cast<uint64_t>(change),
                std::memory_order_relaxed);
}

bool IsFabrics(const nvme::Command& command) {
  return command.opcode == static_cast<uint8_t>(AdminOpcode::kFabrics);
}

}  // namespace

QueuePair::QueuePair(Target& target, Reactor& reactor, const TransportLimits& limits,
                     TransportAddress listen_address, TransportAddress peer_address)
    : target_(target),
      reactor_(reactor),
      limits_(limits),
      listen_address_(std::move(listen_address)),
      peer_address_(std::move(peer_address)),
      completed_commands_(target.PollGroupOf(reactor).completed_commands),
      unassociated_(target.PollGroupOf(reactor).unassociated_queue_pairs) {
  Add(unassociated_, 1);
}

QueuePair::~QueuePair() {
  if (queue_size_ == 0) Add(unassociated_, -1);
}

void QueuePair::PostDisconnect() {
  reactor_.Post([this] { Disconnect(); });
}

void QueuePair::Start(Request& request) {
  AdvanceSqHead();
  request.data_size = 0;
  request.transfer = IsFabrics(request.command) ? nvme::TransferOf(request.command.nsid & 0xff)
                                                : nvme::TransferOf(request.command.opcode);
  Status status = Classify(request);
  if (status != Status::kSuccess) return Complete(request, status);
  if (request.data_size > request.host_size)
    return Complete(request, Status::kDataSglLengthInvalid);
  if (request.data_size > 0) status = LocateData(request);
  if (status != Status::kSuccess) return Complete(request, status);
  if (request.transfer == Transfer::kHostToController && request.data_size > 0)
    return ReceiveData(request);
  Execute(request);
}

void QueuePair::Refuse(Request& request, Status status) {
  AdvanceSqHead();
  request.data_size = 0;
  request.transfer = Transfer::kNone;
  Complete(request, status);
}

// Finds out how many bytes of data the command moves, or why it fails before any do.
Status QueuePair::Classify(Request& request) {
  if (IsFabrics(request.command)) return FabricsDataSize(*this, request, request.data_size);
  if (!connected() || connecting_) return Status::kCommandSequenceError;
  if (is_admin()) return AdminDataSize(*this, request, request.data_size);
  controller_->NoteTraffic();
  return IoDataSize(*this, request, request.data_size);
}

void QueuePair::Execute(Request& request) {
  if (IsFabrics(request.command)) return ExecuteFabrics(*this, request);
  if (is_admin()) return ExecuteAdmin(*this, request);
  ExecuteIo(*this, request);
}

void QueuePair::Complete(Request& request, Status status, uint64_t result) {
  request.completion = {
      .dw0 = static_cast<uint32_t>(result),
      .dw1 = static_cast<uint32_t>(result >> 32),
      .sq_head = sq_flow_control_ ? static_cast<uint16_t>(sq_head_) : uint16_t{0xffff},
      .sq_id = queue_id_,
      .cid = request.command.cid,
      .status = nvme::StatusField(status, IsPermanent(status))};
  if (queue_id_ != 0) Add(completed_commands_, 1);
  if (!closed_) Respond(request);
}

void QueuePair::FinishConnect(Request& request, const ConnectResult& result) {
  connecting_ = false;
  if (result.status == Status::kSuccess) {
    controller_ = result.controller;
    namespaces_ = result.namespaces;
    queue_id_ = result.queue_id;
    queue_size_ = result.queue_size;
    Add(unassociated_, -1);
    sq_flow_control_ = result.sq_flow_control;
    sq_head_ = 1;  // Connect was the first entry
    if (is_admin() && !closed_) controller_->AttachAdmin(*this);
    if (!closed_) OnConnected();
  }
  Complete(request, result.status, result.dw0);
}

bool QueuePair::SendData(Request& request, std::span<const std::byte> bytes) {
  if (!AcquireBuffer(request)) return false;
  for (uint32_t i = 0; i < request.iov_count; ++i) {
    const iovec& piece = request.iovs[i];
    size_t count = std::min(piece.iov_len, bytes.size());
    std::memcpy(piece.iov_base, bytes.data(), count);
    std::memset(static_cast<std::byte*>(piece.iov_base) + count, 0, piece.iov_len - count);
    bytes = bytes.subspan(count);
  }
  return true;
}

void QueuePair::CopyData(const Request& request, std::span<std::byte> out) {
  for (uint32_t i = 0; i < request.iov_count && !out.empty(); ++i) {
    const iovec& piece = request.iovs[i];
    size_t count = std::min(piece.iov_len, out.size());
    std::memcpy(out.data(), piece.iov_base, count);
    out = out.subspan(count);
  }
  if (!out.empty()) std::memset(out.data(), 0, out.size());
}

void QueuePair::Close() {
  assert(!closed_);
  closed_ = true;
  if (connected() && is_admin()) controller_->DetachAdmin();
  DetachWhenIdle();
}

void QueuePair::DetachWhenIdle() {
  if (running_ != 0) return;
  // The control reactor may have sent messages for this queue pair; when it has forgotten it, the
  // answer comes behind them.
  target_.control().Post([this, controller = std::move(controller_)] {
    target_.ForgetQueuePair(*this, controller);
    reactor_.Post([this] { OnDetached(); });
  });
}

}  // namespace sma::target::nvmf
