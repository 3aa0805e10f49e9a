// Connection: its life and its memory.

#include "target/nvmf/tcp/connection.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "spdlog/spdlog.h"
#include "target/nvmf/tcp/poll_group.h"
#include "target/reactor/reactor.h"

namespace sma::target::nvmf::tcp {
namespace {

// What one call of Receive reads at least, where there is so much.
constexpr int kLeastRead = 4096;
constexpr uint32_t kAdminSlotSize = 8192;
constexpr uint64_t kIdleNs = 2'000'000'000;

size_t RoundUp(size_t size, size_t step) { return (size + step - 1) / step * step; }

size_t IoSlotSize(const TransportLimits& limits) {
  return std::max<size_t>(RoundUp(limits.in_capsule_data_size, BufferArena::kPageSize),
                          BufferArena::kPageSize);
}

// Of the only request before login: large enough for each kind of queue.
size_t FirstSlotSize(const TransportLimits& limits) {
  return std::max<size_t>(IoSlotSize(limits), kAdminSlotSize);
}

// Not for connections: allocations of the control plane must go on.
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
      fd_(std::move(fd)) {
  flush_.connection = this;
  flush_.run = [](Deferred& self) { static_cast<FlushLater&>(self).connection->Flush(); };
}

Connection::~Connection() {
  group_.pool().StopWaiting(*this);
  for (uint32_t i = 0; i < request_count_; ++i) ReleaseBuffer(RequestAt(i));
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
  AddRequest(first_request_, 0, memory_.data() + kInputSize);
  opened_ns_ = last_receive_ns_ = reactor().now_ns();
  watched_events_ = EPOLLIN;
  return reactor().Watch(fd_.get(), watched_events_, this) == 0;
}

void Connection::AddRequest(TcpRequest& request, uint32_t index, std::byte* slot) {
  request.index = static_cast<uint16_t>(index);
  request.queue_pair = this;
  request.slot = slot;
  request.out.request = &request;
  request.next = free_;
  free_ = &request;
}

void Connection::OnConnected() {
  agreement_.max_in_capsule = is_admin() ? kAdminSlotSize : limits().in_capsule_data_size;
  if (!is_admin()) slot_size_ = static_cast<uint32_t>(IoSlotSize(limits()));
  group_.OnLoggedIn(*this);
  slots_ = MapUnlessShort(size_t{slot_size_} * (queue_size() - 1));
  if (!slots_.valid()) {
    // Closed by Flush, as the answer to Connect is still to come.
    spdlog::error("{}: no memory for the queue", Name());
    out_of_memory_ = true;
    return reactor().Defer(flush_);
  }
  more_requests_ = MappedArray<TcpRequest>(queue_size() - 1);
  request_count_ = queue_size();
  for (uint32_t i = request_count_ - 1; i > 0; --i) {
    AddRequest(more_requests_[i - 1], i, slots_.data() + size_t{slot_size_} * (i - 1));
  }
}

TcpRequest* Connection::AllocateRequest() {
  TcpRequest* request = free_;
  if (request == nullptr) return nullptr;
  free_ = request->next;
  request->state = TcpRequest::State::kExecuting;
  request->iov_count = 0;
  request->data_borrowed = false;
  request->data_corrupt = false;
  return request;
}

void Connection::FreeRequest(TcpRequest& request) {
  ReleaseData(request);
  request.state = TcpRequest::State::kFree;
  request.next = free_;
  free_ = &request;
  ReleaseBuffer(request);
}

void Connection::ReleaseBuffer(TcpRequest& request) {
  if (request.buffer == nullptr) return;
  group_.pool().Free(*this, std::exchange(request.buffer, nullptr), request.data_size);
}

// Sets iovs to memory of the request's own, if there is some.
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
  // Those that wait already come first.
  bool must_wait = request.data_size > slot_size_ && waiting_head_ != nullptr;
  if (!must_wait && TryAcquireBuffer(request)) return true;
  request.next = nullptr;
  *waiting_tail_ = &request;
  waiting_tail_ = &request.next;
  group_.pool().Wait(*this);
  return false;
}

BufferPool::Turn Connection::TakeTurn() {
  TcpRequest& request = *waiting_head_;
  if (!TryAcquireBuffer(request)) return BufferPool::Turn::kNotServed;
  waiting_head_ = request.next;
  if (waiting_head_ == nullptr) waiting_tail_ = &waiting_head_;
  if (request.transfer == nvme::Transfer::kHostToController) {
    SendR2t(request);
  } else {
    Execute(request);
  }
  return waiting_head_ != nullptr ? BufferPool::Turn::kServed : BufferPool::Turn::kServedLast;
}

void Connection::KeepData(Request& base) {
  auto& request = static_cast<TcpRequest&>(base);
  // In-capsule data are never larger than a slot.
  std::memcpy(request.slot, request.data_iov.iov_base, request.data_iov.iov_len);
  request.data_iov.iov_base = request.slot;
  request.data_borrowed = false;
}

// A command that waits, for memory here or in the bdev layer, has done nothing yet.
bool Connection::Abort(uint16_t cid) {
  for (TcpRequest** at = &waiting_head_; *at != nullptr; at = &(*at)->next) {
    TcpRequest& request = **at;
    if (request.command.cid != cid) continue;
    *at = request.next;
    if (*at == nullptr) waiting_tail_ = at;
    if (waiting_head_ == nullptr) group_.pool().StopWaiting(*this);
    Complete(request, nvme::Status::kAbortRequested);
    return true;
  }
  for (uint32_t i = 0; i < request_count_; ++i) {
    TcpRequest& request = RequestAt(i);
    // While its data are to come, too, so that they are not written then.
    bool under_way = request.in_bdev || request.state == TcpRequest::State::kSendingR2t ||
                     request.state == TcpRequest::State::kAwaitingData;
    if (under_way && request.command.cid == cid) return AbortIo(request);
  }
  return false;
}

void Connection::VisitRequests(void (*visit)(Request& request)) {
  for (uint32_t i = 0; i < request_count_; ++i) visit(RequestAt(i));
}

// What a host has sent before it closed the connection is not executed any more.
void Connection::CatchUp() {
  if (closed()) return;
  pollfd state{.fd = fd_.get(), .events = POLLRDHUP, .revents = 0};
  if (::poll(&state, 1, 0) > 0 && (state.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0)
    return CloseSocket();
  // As much as was there when this began, at most.
  int unread = 0;
  if (::ioctl(fd_.get(), FIONREAD, &unread) != 0) return;
  for (int left = unread; left > 0 && Poll(); left -= kLeastRead) {
  }
}

void Connection::OnFdReady(uint32_t events) {
  if ((events & EPOLLOUT) != 0 && blocked_) {
    blocked_ = false;
    UpdateWatch();
    CheckInPlace();
    Flush();
  }
  if (closed()) return;
  if ((events & EPOLLIN) != 0) {
    if (!stalled_) Poll();
  } else if ((events & (EPOLLHUP | EPOLLERR)) != 0) {
    CloseSocket();
  }
}

bool Connection::Poll() {
  if (closed() || stalled_ || !Receive()) return false;
  if (!closed()) group_.MarkHot(*this);
  return true;
}

void Connection::UpdateWatch() {
  uint32_t events = (stalled_ ? 0u : uint32_t{EPOLLIN}) | (blocked_ ? uint32_t{EPOLLOUT} : 0u);
  if (events == watched_events_ || closed()) return;
  watched_events_ = events;
  reactor().ModifyWatch(fd_.get(), events);
}

// What the host should have done by now; nullptr: nothing.
const char* Connection::OverdueAction(uint64_t now_ns) const {
  if (terminating_) return now_ns - terminated_ns_ > kTerminationTimeoutNs ? "close" : nullptr;
  bool late = evicted_ || now_ns - opened_ns_ > kConnectTimeoutNs;
  if (!connected() && !connecting() && late) return "connect";
  // Others wait for the memory that this one keeps.
  bool pressed = used_bytes() != 0 && group_.pool().has_waiting();
  uint64_t timeout_ns = pressed ? kPressedTimeoutNs : kTransferTimeoutNs;
  // Data may be late also behind a command too many.
  bool expects_bytes =
      awaiting_data_ > 0 || incoming_.request != nullptr || (!stalled_ && input_.size() > 0);
  if (expects_bytes && now_ns - last_receive_ns_ > timeout_ns) return "send the rest";
  if (!out_.empty() && now_ns - last_send_ns_ > timeout_ns) return "receive";
  return nullptr;
}

void Connection::CheckProgress(uint64_t now_ns) {
  if (closed()) return;
  const char* overdue = OverdueAction(now_ns);
  if (overdue == nullptr) return;
  spdlog::warn("{}: the host did not {} in time", Name(), overdue);
  CloseSocket();
}

void Connection::Evict() {
  // Its Connect may have come by now.
  if (!connected()) Poll();
  if (closed() || connected()) return;
  if (!connecting()) return CloseSocket();
  evicted_ = true;
}

void Connection::ReleaseIdleMemory(uint64_t now_ns) {
  if (released_ns_ > last_receive_ns_ || now_ns - last_receive_ns_ < kIdleNs) return;
  if (closed() || input_.size() > 0) return;
  for (uint32_t i = 0; i < request_count_; ++i) {
    const TcpRequest& request = RequestAt(i);
    if (request.state != TcpRequest::State::kFree && request.data_size > 0) return;
  }
  memory_.Release();
  if (slots_.valid()) slots_.Release();
  released_ns_ = now_ns;
}

void Connection::Disconnect() {
  if (closed()) return;
  Flush();
  if (!closed()) CloseSocket();
}

void Connection::CloseSocket() {
  reactor().Unwatch(fd_.get());
  fd_.Reset();
  flush_.Cancel();
  group_.pool().StopWaiting(*this);
  group_.Forget(*this);
  // Data in place that will not be sent keep no namespace.
  while (!out_.empty()) {
    Outgoing& out = out_.Pop();
    if (out.kind == Outgoing::Kind::kResponse)
      ReleaseData(*static_cast<TcpRequest::Out&>(out).request);
  }
  // Neither does what is not in the hands of a bdev keep memory.
  for (uint32_t i = 0; i < request_count_; ++i) {
    if (RequestAt(i).state != TcpRequest::State::kExecuting) ReleaseBuffer(RequestAt(i));
  }
  Close();
}

void Connection::OnDetached() { group_.Destroy(*this); }

}  // namespace sma::target::nvmf::tcp
