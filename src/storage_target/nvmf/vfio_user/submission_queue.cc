// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvmf/vfio_user/submission_queue.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <type_traits>
#include <utility>

#include "storage_target/nvme/nqn.h"
#include "storage_target/nvmf/vfio_user/data_pointer.h"
#include "storage_target/nvmf/vfio_user/nvme_function.h"
#include "storage_target/virtio/shared_fields.h"

namespace sma::storage_target::nvmf::vfio_user {

using nvme::Status;

namespace {

// Enough for all asynchronous event requests, even with a tiny admin queue.
constexpr uint32_t kMinRequests = 8;
// After this many commands, other queues get their turn.
constexpr uint32_t kCommandsPerTurn = 64;
// A command uses at least this much of the function's turn, so that commands without data are
// bounded as well.
constexpr uint32_t kMinTurnBytes = 4096;

bool IsFabrics(const nvme::Command& command) {
  return command.opcode == static_cast<uint8_t>(nvme::AdminOpcode::kFabrics);
}

}  // namespace

SubmissionQueue::SubmissionQueue(NvmeFunction& function, CompletionQueue& completions,
                                 const Options& options)
    : TransportQueuePair(function.target(), function.reactor(), function.limits(),
                         function.address(), function.address()),
      function_(function),
      completions_(completions),
      options_(options),
      request_limit_(std::clamp(options.size, kMinRequests, limits().max_queue_depth)),
      slots_(std::make_unique_for_overwrite<Slot[]>(request_limit_)) {
  ++completions_.submission_queue_count;
  set_reads_in_place(true);
  connect_.queue_pair = this;
}

SubmissionQueue::~SubmissionQueue() {
  for (uint32_t i = 0; i < request_count_; ++i) function_.unshared_data().Release(RequestAt(i));
  --completions_.submission_queue_count;
}

// Requires has_free_request().
MemoryRequest& SubmissionQueue::TakeFreeRequest() {
  static_assert(std::is_trivially_destructible_v<MemoryRequest>);
  if (free_ != nullptr) return *std::exchange(free_, free_->next_free);
  auto* request = new (slots_[request_count_++].bytes.data()) MemoryRequest;
  request->queue_pair = this;
  return *request;
}

void SubmissionQueue::Connect(const Identity& identity, std::function<void(Status)> done) {
  on_connected_ = std::move(done);
  nvme::ConnectCommand command;
  command.queue_id = options_.id;
  // The number of outstanding commands is limited by the requests here, not by the ring.
  const uint32_t limit =
      options_.id == 0 ? limits().max_admin_queue_depth : limits().max_queue_depth;
  command.sq_size = static_cast<uint16_t>(std::min(options_.size, limit) - 1);
  command.attributes = nvme::kConnectDisableSqFlowControl;
  connect_data_.host_id = identity.host_id.bytes();
  connect_data_.controller_id = identity.controller_id;
  nvme::SetPadded(connect_data_.subsystem_nqn, identity.subsystem_nqn, '\0');
  nvme::SetPadded(connect_data_.host_nqn, kHostNqn, '\0');
  connect_.command = std::bit_cast<nvme::Command>(command);
  connect_.host_size = sizeof connect_data_;
  connect_iov_ = {&connect_data_, sizeof connect_data_};
  connect_.iovs = &connect_iov_;
  connect_.iov_count = 1;
  Start(connect_);
}

void SubmissionQueue::Disconnect() {
  if (closed()) return;
  completions_.DropWaiting(*this);
  for (uint32_t i = 0; i < request_count_; ++i) {
    MemoryRequest& request = RequestAt(i);
    // Buffers that a bdev uses are kept until the destructor.
    if (function_.unshared_data().CancelMove(request)) function_.unshared_data().Release(request);
    if (request.unshared) function_.unshared_data().CancelWait(request);
  }
  on_connected_ = nullptr;
  const bool is_admin_queue = options_.id == 0;
  Close();
  if (is_admin_queue) function_.OnAdminQueueClosed();
}

void SubmissionQueue::OnDetached() { function_.OnQueueDetached(*this); }

// Returns true if there are commands to take. None are taken while completions wait for room.
bool SubmissionQueue::HasCommands() const {
  return ring_ != nullptr && !closed() && connected() && has_free_request() &&
         completions_.waiting() == nullptr && function_.doorbells().SqTail(options_.id) != head_;
}

bool SubmissionQueue::TakeCommands(bdev::Turn* turn) {
  if (ring_ == nullptr || closed() || !connected()) return false;
  const uint32_t tail = function_.doorbells().SqTail(options_.id);
  if (tail >= options_.size) {
    function_.Fail("a doorbell value beyond the end of the submission queue");
    return true;
  }
  bool took = false;
  for (uint32_t i = 0; i < kCommandsPerTurn && head_ != tail; ++i) {
    if (!has_free_request() || completions_.waiting() != nullptr) break;
    if (turn != nullptr && turn->is_over()) break;
    MemoryRequest& request = TakeFreeRequest();
    request.command = virtio::Fetch<nvme::Command>(ring_ + size_t{head_} * sizeof(nvme::Command));
    head_ = head_ + 1 == options_.size ? 0 : head_ + 1;
    took = true;
    Begin(request);
    if (turn != nullptr) turn->Use(std::max(request.data_size, kMinTurnBytes));
    // The command may have disabled the controller.
    if (closed() || ring_ == nullptr) break;
  }
  // While the queue is polled, the host does not need to ring the doorbell.
  if (took) SuppressEvents();
  return took;
}

void SubmissionQueue::RequestEvents() { function_.doorbells().SetSqEvent(options_.id, head_); }

void SubmissionQueue::SuppressEvents() {
  const uint32_t passed = head_ == 0 ? options_.size - 1 : head_ - 1;
  function_.doorbells().SetSqEvent(options_.id, passed);
}

void SubmissionQueue::Begin(MemoryRequest& request) {
  request.busy = true;
  request.host_size = UINT32_MAX;  // LocateData determines the actual size
  request.iov_count = 0;
  request.data_borrowed = request.needs_buffer = request.unshared = false;
  request.entry = nullptr;
  if (IsFabrics(request.command)) return Refuse(request, Status::kInvalidOpcode);
  if (!is_admin()) return Start(request);
  // NVMe Base 2.0 §3.3.3.1: admin commands over PCI Express use PRPs.
  if ((request.command.flags & nvme::kPsdtMask) != nvme::kPsdtPrp)
    return Refuse(request, Status::kInvalidField);
  request.data_size = 0;
  request.transfer = nvme::Transfer::kNone;
  if (!function_.ExecuteAdmin(*this, request)) Start(request);
}

Status SubmissionQueue::LocateData(Request& base) {
  if (&base == &connect_) return Status::kSuccess;
  auto& request = static_cast<MemoryRequest&>(base);
  const auto mode = request.transfer == nvme::Transfer::kHostToController ? DmaAccessMode::kRead
                                                                          : DmaAccessMode::kWrite;
  Pieces pieces{request.pieces.data(), MemoryRequest::kMaxPieces, 0};
  bool unshared = false;
  Status status = vfio_user::LocateData(function_.memory(), request.command, request.data_size,
                                        mode, pieces, unshared);
  if (unshared && request.data_size <= function_.unshared_data().max_bytes()) {
    request.unshared = request.needs_buffer = true;
    return Status::kSuccess;
  }
  if (status != Status::kSuccess) return status;
  request.piece_count = pieces.count;
  request.iovs = request.pieces.data();
  request.iov_count = pieces.count;
  request.located = true;
  ++located_count_;
  return Status::kSuccess;
}

bool SubmissionQueue::AcquireBuffer(Request& base) {
  auto& request = static_cast<MemoryRequest&>(base);
  return !request.unshared || function_.unshared_data().Acquire(request);
}

void SubmissionQueue::ReceiveData(Request& base) {
  if (&base == &connect_) return Execute(base);
  auto& request = static_cast<MemoryRequest&>(base);
  if (!request.unshared) return Execute(request);
  if (function_.unshared_data().Acquire(request)) OnBuffer(request);
}

void SubmissionQueue::OnBuffer(MemoryRequest& request) {
  if (request.transfer != nvme::Transfer::kHostToController) return Execute(request);
  function_.unshared_data().Move(request, DmaAccessMode::kRead);
}

// Returns true if the command's data is in its buffer and must still be transferred to the host.
bool SubmissionQueue::MovesToHost(const MemoryRequest& request) const {
  return request.buffer != nullptr && request.transfer == nvme::Transfer::kControllerToHost &&
         nvme::StatusOf(request.completion.status) == Status::kSuccess;
}

void SubmissionQueue::OnDataMoved(MemoryRequest& request, Status status) {
  if (request.transfer == nvme::Transfer::kControllerToHost) {
    if (status != Status::kSuccess)
      request.completion.status = nvme::StatusField(status, status != Status::kAbortRequested);
    PostCompletion(request);
  } else if (status == Status::kSuccess) {
    Execute(request);
  } else {
    Complete(request, status);
  }
}

void SubmissionQueue::Respond(Request& base) {
  if (&base == &connect_) {
    if (on_connected_)
      std::exchange(on_connected_, nullptr)(nvme::StatusOf(base.completion.status));
    return;
  }
  auto& request = static_cast<MemoryRequest&>(base);
  if (!MovesToHost(request)) return PostCompletion(request);
  ReleaseData(request);
  function_.unshared_data().Move(request, DmaAccessMode::kWrite);
}

void SubmissionQueue::PostCompletion(MemoryRequest& request) {
  ReleaseMemory(request);
  function_.unshared_data().Release(request);
  if (completions_.waiting() != nullptr || !function_.MakeRoom(completions_)) {
    completions_.Wait(request);
    return function_.ScheduleFlush();
  }
  PostWaiting(request);
  function_.ScheduleFlush();
}

// Copies data that was read in place to the host; from then on the request no longer uses host
// memory.
void SubmissionQueue::ReleaseMemory(MemoryRequest& request) {
  if (request.iovs == &request.in_place && request.iov_count == 1 && request.located &&
      nvme::StatusOf(request.completion.status) == Status::kSuccess) {
    const auto* from = static_cast<const std::byte*>(request.in_place.iov_base);
    for (uint32_t i = 0; i < request.piece_count; ++i) {
      const iovec& piece = request.pieces[i];
      std::memcpy(piece.iov_base, from, piece.iov_len);
      from += piece.iov_len;
    }
  }
  ReleaseData(request);
  if (!std::exchange(request.located, false)) return;
  --located_count_;
}

void SubmissionQueue::PostWaiting(MemoryRequest& request) {
  request.completion.sq_head = static_cast<uint16_t>(head_);
  request.completion.sq_id = options_.id;
  function_.Post(completions_, request.completion);
  Free(request);
}

void SubmissionQueue::Free(MemoryRequest& request) {
  request.busy = false;
  request.next_free = std::exchange(free_, &request);
}

bool SubmissionQueue::Abort(uint16_t cid) {
  for (uint32_t i = 0; i < request_count_; ++i) {
    MemoryRequest& request = RequestAt(i);
    if (!request.busy || request.command.cid != cid) continue;
    if (request.unshared && function_.unshared_data().CancelWait(request)) {
      Complete(request, Status::kAbortRequested);
      return true;
    }
    if (function_.unshared_data().CancelMove(request)) {
      OnDataMoved(request, Status::kAbortRequested);
      return true;
    }
    return AbortIo(request);
  }
  return false;
}

void SubmissionQueue::VisitRequests(void (*visit)(Request& request)) {
  for (uint32_t i = 0; i < request_count_; ++i) visit(RequestAt(i));
}

void SubmissionQueue::ProcessReceived() {
  if (!function_.takes_commands() || !function_.MayExecute()) return;
  // Each call takes as many commands as there is room for, up to kCommandsPerTurn.
  for (uint32_t left = options_.size; left > 0 && TakeCommands(nullptr);)
    left -= std::min(left, kCommandsPerTurn);
}

}  // namespace sma::storage_target::nvmf::vfio_user
