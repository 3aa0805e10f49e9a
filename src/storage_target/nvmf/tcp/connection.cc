// SPDX-License-Identifier: Apache-2.0

// The lifetime and memory of a Connection.

#include "storage_target/nvmf/tcp/connection.h"

#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/peer_log.h"
#include "spdlog/spdlog.h"
#include "storage_target/nvmf/tcp/poll_group.h"
#include "storage_target/reactor/reactor.h"

namespace sma::storage_target::nvmf::tcp {
namespace {

// Minimum size of a read if that much data is available.
constexpr int kLeastRead = 4096;
constexpr uint32_t kAdminSlotSize = 8192;
constexpr uint64_t kIdleNs = 2'000'000'000;

size_t RoundUp(size_t size, size_t step) { return (size + step - 1) / step * step; }

size_t IoSlotSize(const TransportLimits& limits) {
  return std::max<size_t>(RoundUp(limits.in_capsule_data_size, BufferArena::kPageSize),
                          BufferArena::kPageSize);
}

// Size of the slot of the only request before Connect: large enough for every kind of queue.
size_t FirstSlotSize(const TransportLimits& limits) {
  return std::max<size_t>(IoSlotSize(limits), kAdminSlotSize);
}

// Connections must leave this much address space, so that allocations of the control plane do not
// fail.
constexpr size_t kAddressSpaceReserve = 64 << 20;

MappedMemory MapUnlessShort(size_t size_bytes) {
  if (!MappedMemory::HasRoomFor(size_bytes + kAddressSpaceReserve)) return {};
  return MappedMemory(size_bytes);
}

}  // namespace

Connection::Connection(PollGroup& group, uint64_t id, base::UniqueFd fd,
                       TransportAddress listen_address, TransportAddress peer_address)
    : TransportQueuePair(group.control_plane(), group.reactor(), group.options().limits,
                         std::move(listen_address), std::move(peer_address)),
      group_(group),
      id_(id),
      fd_(std::move(fd)),
      host_watch_(fd_.get()) {
  flush_.connection = this;
  flush_.run = [](Deferred& self) { static_cast<FlushLater&>(self).connection->Flush(); };
  group_.pool().Join(*this, "");
}

Connection::~Connection() {
  group_.pool().StopWaiting(*this);
  for (uint32_t i = 0; i < requests_.count(); ++i) ReleaseBuffer(requests_.At(i));
  group_.pool().Leave(*this);
}

std::string Connection::Name() const {
  if (!connected()) return absl::StrCat(peer_address().ToString(), " (not connected)");
  return absl::StrCat(controller().subsystem().nqn, ": controller ", controller().id(), " queue ",
                      queue_id(), " of ", peer_address().ToString());
}

bool Connection::Open() {
  memory_ = MapUnlessShort(kInputSize + FirstSlotSize(limits()));
  if (!memory_.valid()) return false;
  input_ = InputBuffer({memory_.data(), kInputSize});
  slot_size_ = kAdminSlotSize;
  requests_.AddFirst(memory_.data() + kInputSize);
  opened_ns_ = last_receive_ns_ = reactor().now_ns();
  watched_events_ = EPOLLIN | EPOLLRDHUP;
  return reactor().Watch(fd_.get(), watched_events_, this) == 0;
}

void Connection::OnConnected() {
  negotiated_.max_in_capsule = is_admin() ? kAdminSlotSize : limits().in_capsule_data_size;
  if (!is_admin()) slot_size_ = static_cast<uint32_t>(IoSlotSize(limits()));
  group_.OnConnectCompleted(*this);
  group_.pool().Join(*this, controller().host_nqn(), controller().host_id().ToString());
  MappedMemory slots = MapUnlessShort(size_t{slot_size_} * (queue_size() - 1));
  if (requests_.Grow(queue_size(), std::move(slots), slot_size_)) return;
  // Flush closes the connection, because the Connect response has not been sent.
  base::LogOfPeers().Log(spdlog::level::err, Source(), "{}: no memory for the queue", Name());
  out_of_memory_ = true;
  reactor().Defer(flush_);
}

TcpRequest* Connection::AllocateRequest() {
  TcpRequest* request = requests_.Allocate();
  if (request == nullptr) return nullptr;
  request->state = TcpRequest::State::kExecuting;
  request->iov_count = 0;
  request->data_borrowed = false;
  request->data_corrupt = false;
  return request;
}

void Connection::FreeRequest(TcpRequest& request) {
  ReleaseData(request);
  requests_.Free(request);
  ReleaseBuffer(request);
}

void Connection::ReleaseBuffer(TcpRequest& request) {
  if (request.buffer == nullptr) return;
  group_.pool().Free(*this, std::exchange(request.buffer, nullptr), request.data_size);
}

// Sets iovs to memory owned by the request; returns false if there is no memory.
bool Connection::TryAcquireBuffer(TcpRequest& request) {
  std::byte* memory = request.slot;
  if (request.data_size > slot_size_) {
    request.buffer = memory = group_.pool().Allocate(*this, request.data_size);
    if (memory == nullptr) return false;
  }
  request.data_iov = {memory, request.data_size};
  request.iovs = &request.data_iov;
  request.iov_count = 1;
  return true;
}

bool Connection::AcquireBuffer(Request& base) {
  auto& request = static_cast<TcpRequest&>(base);
  if (request.iov_count != 0) return true;
  // Requests that already wait come first.
  bool must_wait = request.data_size > slot_size_ && !waiting_.empty();
  if (!must_wait && TryAcquireBuffer(request)) return true;
  waiting_.Append(request);
  group_.pool().Wait(*this);
  return false;
}

BufferPool::Turn Connection::TakeTurn() {
  TcpRequest& request = *waiting_.first();
  if (!TryAcquireBuffer(request)) return BufferPool::Turn::kNotServed;
  waiting_.TakeFirst();
  if (request.transfer == nvme::Transfer::kHostToController) {
    SendR2t(request);
  } else {
    Execute(request);
  }
  return waiting_.empty() ? BufferPool::Turn::kServedLast : BufferPool::Turn::kServed;
}

void Connection::KeepData(Request& base) {
  auto& request = static_cast<TcpRequest&>(base);
  // In-capsule data is never larger than a slot.
  std::memcpy(request.slot, request.data_iov.iov_base, request.data_iov.iov_len);
  request.data_iov.iov_base = request.slot;
  request.data_borrowed = false;
}

// A command that is waiting here for memory, or in the bdev layer, has not been executed.
bool Connection::Abort(uint16_t cid) {
  for (TcpRequest* request = waiting_.first(); request != nullptr; request = request->next) {
    if (request->command.cid != cid) continue;
    waiting_.Remove(*request);
    if (waiting_.empty()) group_.pool().StopWaiting(*this);
    Complete(*request, nvme::Status::kAbortRequested);
    return true;
  }
  for (uint32_t i = 0; i < requests_.count(); ++i) {
    TcpRequest& request = requests_.At(i);
    // This includes the time while its data are being received, so that the data are not written
    // afterwards.
    bool under_way = request.in_bdev || request.held ||
                     request.state == TcpRequest::State::kSendingR2t ||
                     request.state == TcpRequest::State::kAwaitingData;
    if (under_way && request.command.cid == cid) return AbortIo(request);
  }
  return false;
}

void Connection::VisitRequests(void (*visit)(Request& request)) {
  for (uint32_t i = 0; i < requests_.count(); ++i) visit(requests_.At(i));
}

void Connection::ProcessReceived() {
  if (closed()) return;
  if (host_watch_.IsClosed()) return CloseSocket();
  // Processes at most the data that was available at the start.
  int unread = 0;
  if (::ioctl(fd_.get(), FIONREAD, &unread) != 0) return;
  for (int left = unread; left > 0 && Poll(); left -= kLeastRead) {
  }
}

// Commands that a host sent before it closed the connection are not executed.
void Connection::OnFdReady(uint32_t events) {
  if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) return OnClosedByHost();
  if ((events & EPOLLOUT) != 0 && blocked_) {
    blocked_ = false;
    UpdateWatch();
    Flush();
  }
  if (closed()) return;
  if ((events & EPOLLIN) != 0 && !stalled_) Poll();
}

void Connection::OnClosedByHost() {
  int error = 0;
  socklen_t size = sizeof error;
  if (::getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error != 0)
    base::LogOfPeers().Log(spdlog::level::info, Source(), "{}: {}", Name(), std::strerror(error));
  CloseSocket();
}

bool Connection::Poll() {
  if (closed() || stalled_ || !Receive()) return false;
  if (!closed()) group_.MarkHot(*this);
  return true;
}

void Connection::UpdateWatch() {
  uint32_t events =
      EPOLLRDHUP | (stalled_ ? 0u : uint32_t{EPOLLIN}) | (blocked_ ? uint32_t{EPOLLOUT} : 0u);
  if (events == watched_events_ || closed()) return;
  watched_events_ = events;
  reactor().ModifyWatch(fd_.get(), events);
}

// Returns the action that the host should have completed by now, or nullptr if nothing is overdue.
const char* Connection::OverdueAction(uint64_t now_ns) {
  if (terminating_) return now_ns - terminated_ns_ > kTerminationTimeoutNs ? "close" : nullptr;
  bool late = evicted_ || now_ns - opened_ns_ > group_.options().connect_timeout_ns;
  if (!connected() && !connecting() && late) return "connect";
  // True if other hosts are waiting for memory that this connection holds.
  bool pressed = used_bytes() != 0 && group_.pool().OthersWait(*this);
  uint64_t timeout_ns = pressed ? group_.options().pressed_timeout_ns : kTransferTimeoutNs;
  // Data can also be delayed because they follow a command that exceeds the queue depth.
  bool expects_bytes =
      awaiting_data_ > 0 || incoming_.request != nullptr || (!stalled_ && input_.size() > 0);
  if (expects_bytes && now_ns - last_receive_ns_ > timeout_ns) return "send the rest";
  if (!out_.empty() && now_ns - last_send_ns_ > timeout_ns) return "receive";
  if (pressed && HoldsMemoryTooLong(now_ns)) return "transfer the data of a command";
  if (connected() && namespaces().is_removing() && HoldsNamespaceTooLong(now_ns))
    return "receive the blocks of a namespace that is being removed";
  return nullptr;
}

// Returns true if the host has been sending or receiving the data of a command for longer than
// everything that it holds takes at the minimum rate. A single byte is no progress here.
bool Connection::HoldsMemoryTooLong(uint64_t now_ns) {
  uint64_t held_bytes = group_.pool().HostUsedBytes(*this);
  uint64_t limit_ns =
      group_.options().pressed_timeout_ns + held_bytes * 1'000'000'000 / kMinPressedBytesPerSec;
  for (uint32_t i = 0; i < requests_.count(); ++i) {
    const TcpRequest& request = requests_.At(i);
    if (request.buffer != nullptr && request.state != TcpRequest::State::kExecuting &&
        now_ns - request.transfer_ns > limit_ns)
      return true;
  }
  return false;
}

// Returns true if a namespace is being removed, and the removal waits for blocks in place that the
// host receives too slowly, even if it does receive some.
bool Connection::HoldsNamespaceTooLong(uint64_t now_ns) {
  for (uint32_t i = 0; i < requests_.count(); ++i) {
    const TcpRequest& request = requests_.At(i);
    if (request.state == TcpRequest::State::kResponding && request.entry != nullptr &&
        request.entry->is_being_removed() &&
        now_ns - request.transfer_ns > group_.options().removal_timeout_ns)
      return true;
  }
  return false;
}

void Connection::CheckHost(uint64_t clock_ns) {
  if (closed() || !connected()) return;
  if (controller().IsExpired(clock_ns)) return CloseExpired();
  const bool has_commands = !idle() || !waiting_.empty() || stalled_;
  if (has_commands && host_watch_.IsClosed()) OnClosedByHost();
}

void Connection::CheckProgress(uint64_t now_ns) {
  if (closed()) return;
  const char* overdue = OverdueAction(now_ns);
  if (overdue == nullptr) return;
  base::LogOfPeers().Log(spdlog::level::warn, Source(), "{}: the host did not {} in time", Name(),
                         overdue);
  CloseSocket();
}

void Connection::Evict(Admission::State state) {
  // The Connect command may have arrived by now.
  if (!connected()) Poll();
  if (closed()) return;
  if (connected() && !(is_discovery() && state == Admission::State::kDiscovery)) return;
  if (!connecting()) return CloseSocket();
  evicted_ = true;
}

void Connection::ReleaseIdleMemory(uint64_t now_ns) {
  if (released_ns_ > last_receive_ns_ || now_ns - last_receive_ns_ < kIdleNs) return;
  if (closed() || input_.size() > 0) return;
  for (uint32_t i = 0; i < requests_.count(); ++i) {
    const TcpRequest& request = requests_.At(i);
    if (request.state != TcpRequest::State::kFree && request.data_size > 0) return;
  }
  memory_.Release();
  requests_.Trim();
  released_ns_ = now_ns;
}

void Connection::Disconnect() {
  if (closed()) return;
  Flush();
  if (!closed()) CloseSocket();
}

void Connection::CloseSocket() {
  reactor().Unwatch(fd_.get());
  flush_.Cancel();
  group_.pool().StopWaiting(*this);
  group_.Forget(*this);
  // Blocks in place that will not be sent must not keep a namespace in use.
  while (!out_.empty()) {
    Outgoing& out = out_.TakeFirst();
    if (out.kind == Outgoing::Kind::kResponse)
      ReleaseData(*static_cast<TcpRequest::Out&>(out).request);
  }
  // Requests that no bdev is executing must not keep memory allocated.
  for (uint32_t i = 0; i < requests_.count(); ++i) {
    TcpRequest& request = requests_.At(i);
    if (request.state != TcpRequest::State::kExecuting) ReleaseBuffer(request);
  }
  Close();
  // To the host, the end of the connection means that none of its commands will be executed any
  // more. If some are still being executed, the socket is closed with the object, in OnDetached.
  if (idle()) fd_.Reset();
}

void Connection::OnDetached() { group_.Destroy(*this); }

}  // namespace sma::storage_target::nvmf::tcp
