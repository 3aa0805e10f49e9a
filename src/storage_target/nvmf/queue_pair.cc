// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvmf/queue_pair.h"

#include <algorithm>
#include <cassert>
#include <chrono>
#include <cstring>

#include "storage_target/nvmf/control_plane.h"
#include "storage_target/reactor/reactor.h"

namespace sma::storage_target::nvmf {

using nvme::Status;

namespace {

constexpr uint64_t kNsPerMs = 1'000'000;
// Held commands whose times end one after another are ended together in periods of this length.
constexpr std::chrono::milliseconds kHoldPeriod{50};

// Returns true if the same command would fail again at any time (NVMe Base 2.0 §3.3.3.2.1, "Do Not
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
    case Status::kInternalPathError:
    case Status::kUnrecoveredReadError:
    case Status::kWriteFault:
    case Status::kConnectControllerBusy:
    // The subsystem may be created or the host may be allowed a moment later, for example after a
    // restart of the target.
    case Status::kConnectInvalidParameters:
    case Status::kConnectInvalidHost:
      return false;
    default:
      return true;
  }
}

// The counter has only one writer.
void Add(std::atomic<uint64_t>& counter, int64_t change) {
  counter.store(counter.load(std::memory_order_relaxed) + static_cast<uint64_t>(change),
                std::memory_order_relaxed);
}

}  // namespace

QueuePair::QueuePair(ControlPlane& control_plane, Reactor& reactor, const TransportLimits& limits,
                     TransportAddress listen_address, TransportAddress peer_address)
    : control_plane_(control_plane),
      reactor_(reactor),
      limits_(limits),
      listen_address_(std::move(listen_address)),
      peer_address_(std::move(peer_address)),
      completed_commands_(control_plane.PollGroupOf(reactor).completed_commands),
      unassociated_(control_plane.PollGroupOf(reactor).unassociated_queue_pairs) {
  Add(unassociated_, 1);
}

QueuePair::~QueuePair() {
  if (queue_size_ == 0) Add(unassociated_, -1);
}

void QueuePair::PostDisconnect() {
  reactor_.Post([this] { Disconnect(); });
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
    if (is_admin() && !closed_) controller_->AttachAdmin(reactor_, *this, [this] { Disconnect(); });
    if (!closed_) OnConnected();
  }
  Complete(request, result.status, result.dw0);
}

bool QueuePair::BeginControlCall(Request& request) {
  if (!in_control_call_) return in_control_call_ = true;
  waiting_for_control_.Append(request);
  return false;
}

// A command that is resumed may complete without another control call.
void QueuePair::EndControlCall() {
  in_control_call_ = false;
  while (!closed_ && !in_control_call_ && !waiting_for_control_.empty())
    Resume(static_cast<Request&>(waiting_for_control_.TakeFirst()));
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
  if (connected()) {
    // Counted here and not in the control reactor, so that writes on the host's other connections
    // are held from now on.
    ++controller_->host_connections().ended;
    counts_as_ended_ = true;
  }
  if (connected() && is_admin()) controller_->DetachAdmin();
  ++running_;  // the last aborted command must not detach the queue pair here
  VisitRequests([](Request& request) { AbortIo(request); });
  --running_;
  if (running_ != 0 && connected()) {
    control_plane_.control().Post(
        [this, controller = controller_] { control_plane_.NoteClosed(*this, *controller); });
  }
  DetachWhenIdle();
}

bool QueuePair::AbortIo(Request& request) {
  request.abort_requested = true;
  if (request.held) {
    std::erase(request.queue_pair->held_, &request);
    request.held = false;
    request.queue_pair->Complete(request, Status::kAbortRequested);
    return true;
  }
  return request.in_bdev && request.entry->channel().Abort(request);
}

void QueuePair::Hold(Request& request) {
  if (request.first_held_ns == 0) request.first_held_ns = reactor_.now_ns();
  if (HoldTimeLeftNs(request) == 0) return Complete(request, Status::kInternalPathError);
  if (request.data_borrowed) KeepData(request);
  request.held = true;
  held_.push_back(&request);
  if (!awaiting_held_) AwaitHeld({});
}

uint64_t QueuePair::HoldTimeLeftNs(const Request& request) const {
  const uint64_t timeout_ns = uint64_t{controller_->subsystem().held_write_timeout_ms} * kNsPerMs;
  const uint64_t held_ns = reactor_.now_ns() - request.first_held_ns;
  // The clocks of the two reactors differ by one round of their loops.
  return held_ns + kNsPerMs > timeout_ns ? 0 : timeout_ns - held_ns;
}

// The first of the held commands has waited longest.
void QueuePair::AwaitHeld(std::chrono::milliseconds at_least) {
  awaiting_held_ = true;
  const auto left =
      std::max(at_least, std::chrono::milliseconds(HoldTimeLeftNs(*held_.front()) / kNsPerMs + 1));
  control_plane_.control().Post([this, controller = controller_, queue_id = queue_id_, left] {
    control_plane_.AwaitLateIo(*this, controller, queue_id, left);
  });
}

// A command that is held again during the loop waits for another call.
void QueuePair::EndHold(bool execute) {
  ProcessReceived();  // closes this queue pair if the host has closed the connection
  awaiting_held_ = false;
  std::vector<Request*> ending = std::exchange(held_, {});
  if (!execute) {
    auto first_kept = std::stable_partition(ending.begin(), ending.end(), [&](Request* request) {
      return HoldTimeLeftNs(*request) == 0;
    });
    held_.assign(first_kept, ending.end());
    ending.erase(first_kept, ending.end());
    if (!held_.empty()) AwaitHeld(kHoldPeriod);
  }
  for (Request* request : ending) {
    if (!std::exchange(request->held, false)) continue;  // the queue pair was closed meanwhile
    execute ? Resume(*request) : Complete(*request, Status::kInternalPathError);
  }
}

void QueuePair::DetachWhenIdle() {
  if (running_ != 0) return;
  // The control reactor may have posted messages for this queue pair. It posts the reply after it
  // has removed the queue pair from its tables, so the reply arrives after all of these messages.
  control_plane_.control().Post([this, controller = std::move(controller_)] {
    control_plane_.RemoveQueuePair(*this, controller);
    reactor_.Post([this] { OnDetached(); });
  });
}

}  // namespace sma::storage_target::nvmf
