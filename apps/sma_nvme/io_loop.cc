// SPDX-License-Identifier: Apache-2.0

#include "sma_nvme/io_loop.h"

#include <poll.h>

#include <cstdlib>
#include <ctime>
#include <new>

#include "absl/strings/str_format.h"

namespace sma::sma_nvme {

using storage_target::initiator::QueuePair;
using storage_target::initiator::Request;
namespace nvme = storage_target::nvme;

namespace {

constexpr size_t kBufferAlignment = 4096;
// How often the admin queue is polled.
constexpr uint64_t kSessionIntervalNs = 10'000'000;
constexpr int kSleepMs = 10;

size_t RoundUp(size_t value, size_t to) { return (value + to - 1) / to * to; }

}  // namespace

uint64_t NowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

IoLoop::IoLoop(Session& session, const storage_target::initiator::NamespaceInfo& info,
               const Options& options, std::vector<std::unique_ptr<QueuePair>> queues)
    : session_(session),
      info_(info),
      options_(options),
      blocks_per_io_(options.io_bytes / info.block_size),
      queues_(std::move(queues)),
      memory_(nullptr, std::free),
      slots_(queues_.size() * options.depth) {
  const size_t stride = RoundUp(options.io_bytes, kBufferAlignment);
  memory_.reset(
      static_cast<std::byte*>(std::aligned_alloc(kBufferAlignment, stride * slots_.size())));
  if (!memory_) throw std::bad_alloc();
  for (size_t i = 0; i < slots_.size(); ++i) {
    Slot& slot = slots_[i];
    slot.loop = this;
    slot.queue = queues_[i % queues_.size()].get();
    slot.buffer = {memory_.get() + i * stride, options.io_bytes};
    slot.iov = {slot.buffer.data(), slot.buffer.size()};
    slot.iovs = &slot.iov;
    slot.iov_count = 1;
    slot.data_bytes = options.io_bytes;
    slot.done = OnDone;
  }
}

IoLoop::~IoLoop() {
  next_ = nullptr;
  for (auto& queue : queues_) queue->Close("the run has ended");
}

void IoLoop::Prepare(Slot& slot, nvme::IoOpcode opcode, uint64_t lba) const {
  slot.lba = lba;
  slot.command = {};
  slot.command.opcode = static_cast<uint8_t>(opcode);
  slot.command.nsid = info_.nsid;
  slot.command.set_lba(lba);
  slot.command.cdw12 = blocks_per_io_ - 1;
}

absl::Status IoLoop::Run(const Next& next, const Check& check) {
  next_ = &next;
  check_ = &check;
  status_ = absl::OkStatus();
  now_ns_ = NowNs();
  for (Slot& slot : slots_) StartNext(slot);
  uint64_t session_ns = now_ns_;
  while (under_way_ > 0) {
    bool busy = PollQueues();
    if (!busy && !options_.spin) Sleep();
    if (!clock_is_fresh_) now_ns_ = NowNs();
    clock_is_fresh_ = false;
    if (now_ns_ - session_ns < kSessionIntervalNs) continue;
    session_ns = now_ns_;
    if (absl::Status status = session_.RunBriefly(); !status.ok()) {
      status_ = status;
      break;
    }
  }
  next_ = nullptr;
  return status_;
}

bool IoLoop::PollQueues() {
  bool busy = false;
  for (auto& queue : queues_) {
    if (queue->Poll()) busy = true;
    if (queue->closed() && status_.ok()) status_ = absl::UnavailableError(queue->close_reason());
  }
  return busy;
}

void IoLoop::Sleep() {
  std::vector<pollfd> fds;
  for (auto& queue : queues_) {
    queue->Flush();
    fds.push_back(
        {queue->fd(), static_cast<short>(POLLIN | (queue->wants_write() ? POLLOUT : 0)), 0});
  }
  poll(fds.data(), fds.size(), kSleepMs);
}

void IoLoop::StartNext(Slot& slot) {
  if (!status_.ok() || next_ == nullptr || !(*next_)(slot)) return;
  slot.start_ns = now_ns_;
  if (slot.queue->Submit(slot)) ++under_way_;
}

void IoLoop::OnDone(Request& request, const nvme::Completion& completion) {
  auto& slot = static_cast<Slot&>(request);
  slot.loop->Finish(slot, completion);
}

void IoLoop::Finish(Slot& slot, const nvme::Completion& completion) {
  --under_way_;
  if (next_ == nullptr) return;
  if (!clock_is_fresh_) now_ns_ = NowNs();  // one clock reading for all completions of a turn
  clock_is_fresh_ = true;
  nvme::Status result = nvme::StatusOf(completion.status);
  if (result != nvme::Status::kSuccess) {
    if (status_.ok()) {
      status_ = absl::DataLossError(absl::StrFormat("LBA %u: ended with status %03xh", slot.lba,
                                                    static_cast<unsigned>(result)));
    }
    return;
  }
  latencies_.Add(now_ns_ - slot.start_ns);
  if (absl::Status status = (*check_)(slot); !status.ok()) status_ = status;
  StartNext(slot);
}

}  // namespace sma::sma_nvme
