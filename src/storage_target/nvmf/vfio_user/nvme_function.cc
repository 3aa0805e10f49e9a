// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvmf/vfio_user/nvme_function.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <utility>

#include "base/peer_log.h"
#include "spdlog/spdlog.h"
#include "storage_target/nvme/property.h"
#include "storage_target/virtio/bus_error_guard.h"

namespace sma::storage_target::nvmf::vfio_user {
namespace {

using storage_target::vfio_user::PciConfig;
using VectorType = storage_target::vfio_user::Interrupts::VectorType;
using virtio::BusErrorGuard;

// The PCI IDs that SPDK's NVMe functions have.
constexpr uint16_t kVendorId = 0x4e58;
constexpr uint16_t kDeviceId = 0x0001;
constexpr uint32_t kNvmeClassCode = 0x010802;

constexpr uint32_t kMsixEntryBytes = 16;
// Vector Control of an MSI-X table entry, and its mask bit, which is initially set.
constexpr uint32_t kMsixControlOffset = 12;

uint64_t Capabilities(const TransportLimits& limits) {
  nvme::Capabilities capabilities;
  capabilities.max_queue_entries = static_cast<uint16_t>(limits.max_queue_depth);
  capabilities.timeout_500ms = 30;
  return capabilities.Encode();
}

// Returns the number of interrupt vectors: one for each queue, if there are that many.
uint32_t VectorCount(const Options& options) {
  const uint32_t wanted = options.limits.max_io_queue_pairs + 1;
  return options.msi ? std::min<uint32_t>(std::bit_ceil(wanted), PciConfig::kMaxMsiVectors)
                     : wanted;
}

PciConfig::Options ConfigOf(const Options& options) {
  return {.vendor_id = kVendorId,
          .device_id = kDeviceId,
          .class_code = kNvmeClassCode,
          .bar0_bytes = kBar0Bytes,
          .bar4_bytes = kBar4Bytes,
          .msi = options.msi,
          .vector_count = static_cast<uint16_t>(VectorCount(options)),
          .pba_offset_bytes = kPbaOffset};
}

std::vector<std::byte> MakeMsixTable(uint32_t vector_count) {
  std::vector<std::byte> table(size_t{vector_count} * kMsixEntryBytes);
  for (size_t at = kMsixControlOffset; at < table.size(); at += kMsixEntryBytes)
    table[at] = std::byte{1};
  return table;
}

}  // namespace

NvmeFunction::NvmeFunction(Target& target, Reactor& reactor, const Options& options,
                           TransportAddress address, std::string subsystem_nqn)
    : target_(target),
      reactor_(reactor),
      options_(options),
      address_(std::move(address)),
      subsystem_nqn_(std::move(subsystem_nqn)),
      host_id_(base::Uuid::Random()),
      cap_(Capabilities(options.limits)),
      config_(ConfigOf(options)),
      interrupts_(VectorCount(options), options.msi ? VectorType::kMsi : VectorType::kMsix),
      unshared_data_(memory_, options.limits.max_io_size),
      doorbells_(options.mappable_doorbells),
      moderation_(VectorCount(options)),
      msix_table_(MakeMsixTable(VectorCount(options))),
      poll_ns_(static_cast<uint64_t>(std::chrono::nanoseconds(reactor.options().poll).count())),
      turn_(reactor),
      seen_bus_errors_(BusErrorGuard::broken_count()) {
  flusher_.function = this;
  flusher_.run = [](Deferred& self) { static_cast<Flusher&>(self).function->Flush(); };
}

NvmeFunction::~NvmeFunction() {
  if (client_watch_) reactor_.RemoveDelayWatch(this);
}

void NvmeFunction::Pause(std::function<void()> done) {
  paused_ = true;
  when_paused_ = std::move(done);
  CheckPaused();
}

void NvmeFunction::CheckPaused() {
  if (!when_paused_) return;
  for (const auto& [id, queue] : submission_queues_) {
    if (queue->located_count() > 0) return;
  }
  std::exchange(when_paused_, nullptr)();
}

void NvmeFunction::Resume() {
  paused_ = false;
  if (memory_.has_unshared()) unshared_data_.Prepare();
  FindRings();
  PollOnEvent();
}

std::byte* NvmeFunction::FindRing(uint64_t address, uint64_t size_bytes, DmaAccessMode mode) const {
  std::byte* ring = memory_.Translate(address, size_bytes, mode);
  // A file may be mapped at an offset with a different alignment than the guest addresses.
  const bool aligned = reinterpret_cast<uintptr_t>(ring) % sizeof(uint64_t) == 0;
  return aligned ? ring : nullptr;
}

// A queue whose memory is not mapped is suspended.
void NvmeFunction::FindRings() {
  for (auto& [id, queue] : submission_queues_) {
    queue->SetRing(FindRing(queue->options().address, queue->size_bytes(), DmaAccessMode::kRead));
  }
  for (auto& [id, queue] : completion_queues_) {
    queue->SetRing(FindRing(queue->options().address, queue->size_bytes(), DmaAccessMode::kWrite));
  }
  if (shadow_address_ == 0) return;
  auto* shadow = FindRing(shadow_address_, nvme::kMinPageSize, DmaAccessMode::kWrite);
  auto* events = FindRing(event_index_address_, nvme::kMinPageSize, DmaAccessMode::kWrite);
  const bool both = shadow != nullptr && events != nullptr;
  doorbells_.SetShadow(both ? reinterpret_cast<uint32_t*>(shadow) : nullptr,
                       both ? reinterpret_cast<uint32_t*>(events) : nullptr);
}

void NvmeFunction::BeginPolling() {
  if (std::exchange(polling_, true)) return;
  last_work_ns_ = reactor_.now_ns();
  AfterSleep();
  reactor_.AddPoller(this);
}

void NvmeFunction::EndPolling() {
  if (!std::exchange(polling_, false)) return;
  reactor_.RemovePoller(this);
  if (unflushed_) Flush();
}

// Called when the host may have submitted commands. Polls at most once per round: the next poll
// happens before the function sleeps, and a client may write thousands of doorbells with one
// message.
void NvmeFunction::PollOnEvent() {
  if (state_ != State::kReady || failed_ || paused_) return;
  BeginPolling();
  const uint64_t now_ns = reactor_.now_ns();
  if (std::exchange(event_poll_ns_, now_ns) != now_ns) Poll();
}

// Takes the commands of all queues until their data use up the function's turn. The next poll
// continues with the queue after the last one. Returns true if there were any.
bool NvmeFunction::TakeCommands() {
  bool worked = turn_.is_over();  // by an earlier poll in this round
  auto at = submission_queues_.lower_bound(next_queue_);
  for (size_t left = submission_queues_.size(); left > 0 && !turn_.is_over(); --left) {
    if (paused_ || failed_) break;
    if (at == submission_queues_.end()) at = submission_queues_.begin();
    worked |= at->second->TakeCommands(&turn_);
    ++at;
  }
  next_queue_ = at == submission_queues_.end() ? uint16_t{0} : at->first;
  return worked;
}

bool NvmeFunction::Poll() {
  if (!CheckMemory()) return true;
  if (!MayExecute()) {
    EndPolling();  // the session is about to end
    return false;
  }
  in_poll_ = true;
  const bool worked = TakeCommands();
  in_poll_ = false;
  if (unflushed_) Flush();
  UpdateIntx();
  const uint64_t now_ns = reactor_.now_ns();
  if (worked) {
    last_work_ns_ = now_ns;
  } else if (now_ns - last_work_ns_ >= poll_ns_ && PrepareSleep()) {
    EndPolling();
  }
  return worked;
}

// Commands that wait must not be executed after the client has left. The session ends the queues.
void NvmeFunction::OnDelay(uint64_t /*clock_ns*/) {
  const bool idle = std::ranges::all_of(submission_queues_,
                                        [](const auto& entry) { return entry.second->is_idle(); });
  if (idle || !client_watch_->IsClosed()) return;
  for (auto& [id, queue] : submission_queues_) queue->AbortCommands();
}

bool NvmeFunction::HasWork() const {
  if (paused_ || failed_) return false;
  for (const auto& [id, queue] : submission_queues_) {
    if (queue->HasCommands()) return true;
  }
  for (const auto& [id, queue] : completion_queues_) {
    if (queue->waiting() != nullptr && doorbells_.CqHead(id) != queue->head()) return true;
  }
  return false;
}

bool NvmeFunction::PrepareSleep() {
  RaiseInterrupts();
  // A write to a mapped register causes no event, so polling must continue.
  if (doorbells_.fd() >= 0 && state_ == State::kReady && !failed_) return false;
  for (auto& [id, queue] : submission_queues_) queue->RequestEvents();
  for (auto& [id, queue] : completion_queues_) {
    if (queue->waiting() != nullptr) doorbells_.SetCqEvent(id, queue->head());
  }
  // The host writes its shadow doorbell and then reads the event index; the fence orders this side
  // accordingly.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return !HasWork();
}

void NvmeFunction::AfterSleep() {
  for (auto& [id, queue] : submission_queues_) queue->SuppressEvents();
}

// Returns false if shared host memory has lost its backing.
bool NvmeFunction::CheckMemory() {
  if (seen_bus_errors_ == BusErrorGuard::broken_count()) return true;
  seen_bus_errors_ = BusErrorGuard::broken_count();
  if (memory_.intact()) return true;
  Fail("host memory was lost: its file was truncated");
  return false;
}

bool NvmeFunction::MakeRoom(CompletionQueue& queue) {
  if (queue.CanPost()) return true;
  if (!queue.SetHead(doorbells_.CqHead(queue.options().id))) {
    Fail("a doorbell value beyond the end of the completion queue");
    return false;
  }
  return queue.CanPost();
}

void NvmeFunction::Post(CompletionQueue& queue, const nvme::Completion& completion) {
  queue.Post(completion);
  if (queue.unsignalled == 1) queue.first_unsignalled_ns = reactor_.now_ns();
}

void NvmeFunction::ScheduleFlush() {
  unflushed_ = true;
  if (!in_poll_) reactor_.Defer(flusher_);
}

void NvmeFunction::DrainWaiting(CompletionQueue& queue) {
  while (!failed_ && queue.waiting() != nullptr && MakeRoom(queue)) {
    MemoryRequest& request = queue.TakeWaiting();
    static_cast<SubmissionQueue*>(request.queue_pair)->PostWaiting(request);
  }
}

void NvmeFunction::Flush() {
  unflushed_ = false;
  while (MemoryRequest* request = unshared_data_.TakeWaiting())
    static_cast<SubmissionQueue*>(request->queue_pair)->OnBuffer(*request);
  const uint64_t now_ns = reactor_.now_ns();
  for (auto& [id, queue] : completion_queues_) {
    DrainWaiting(*queue);
    if (queue->waiting() != nullptr) unflushed_ = true;
    if (queue->unsignalled == 0) continue;
    const auto& options = queue->options();
    // An interrupt may be delayed only while polling checks it repeatedly.
    const bool due = !polling_ || moderation_.IsDue(options.vector, queue->unsignalled,
                                                    now_ns - queue->first_unsignalled_ns);
    if (!due && options.interrupts) {
      unflushed_ = true;
      continue;
    }
    RaiseInterrupt(*queue);
  }
  UpdateIntx();
  CheckPaused();
  if (!polling_ && state_ == State::kReady && HasWork()) BeginPolling();
}

void NvmeFunction::RaiseInterrupt(CompletionQueue& queue) {
  if (queue.unsignalled == 0) return;
  queue.unsignalled = 0;
  if (!queue.options().interrupts || !interrupts_.vectors_in_use()) return;
  interrupts_.Raise(queue.options().vector);
}

// Raises all pending interrupts, because no further poll will check whether they are due.
void NvmeFunction::RaiseInterrupts() {
  for (auto& [id, queue] : completion_queues_) RaiseInterrupt(*queue);
}

void NvmeFunction::UpdateIntx() {
  if (interrupts_.vectors_in_use()) return;
  bool level = false;
  for (auto& [id, queue] : completion_queues_) {
    if (!queue->options().interrupts || queue->empty()) continue;
    if (!queue->SetHead(doorbells_.CqHead(id)))
      return Fail("a doorbell value beyond the end of the completion queue");
    level |= !queue->empty();
  }
  interrupts_.SetIntx(level && (intms_ & 1) == 0);
}

void NvmeFunction::Fail(std::string_view reason) {
  if (std::exchange(failed_, true)) return;
  csts_ |= nvme::kCstsFatal;
  base::LogOfPeers().Log(spdlog::level::warn, name(), "{}: controller failed: {}", name(), reason);
}

void NvmeFunction::OnAdminQueueClosed() {
  if (state_ == State::kStopping) return;
  Fail("the subsystem ended the association");
  for (auto& [id, queue] : submission_queues_) queue->Disconnect();
}

void NvmeFunction::OnQueueDetached(SubmissionQueue& queue) {
  const uint16_t id = queue.options().id;
  if (id == 0) ending_.clear();  // its commands end with it
  submission_queues_.erase(id);
  if (unshared_data_.has_waiting()) ScheduleFlush();  // it has released buffers
  if (auto node = ending_.extract(id); !node.empty()) {
    MemoryRequest& request = *node.mapped().request;
    auto& admin = static_cast<SubmissionQueue&>(*request.queue_pair);
    if (!admin.closed()) admin.Finish(request, node.mapped().status);
  }
  CheckPaused();
  CheckShutDown();
  if (state_ == State::kStopping && submission_queues_.empty()) OnStopped();
}

}  // namespace sma::storage_target::nvmf::vfio_user
