// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev/channel.h"

#include <algorithm>
#include <cassert>
#include <chrono>
#include <utility>

#include "storage_target/bdev/bdev.h"
#include "storage_target/bdev/emulator.h"
#include "storage_target/reactor/reactor.h"

namespace sma::storage_target::bdev {
namespace {

// Values of Io::phase: the location of an I/O, and what Complete does when the module completes it.
constexpr uint8_t kPlain = 0;         // in the module; completes the I/O
constexpr uint8_t kFlushFollows = 1;  // in the module; a flush follows
constexpr uint8_t kFlushing = 2;      // in the module as a flush; completes the original I/O
constexpr uint8_t kOfEmulator = 3;    // in the module; completes into the emulator
constexpr uint8_t kHeld = 4;          // in held_
constexpr uint8_t kReady = 5;         // about to be dispatched by PumpHeld
constexpr uint8_t kEmulated = 6;      // in the emulator

constexpr uint64_t kMinPumpPauseNs = 1'000'000;
// The minimum pause between two runs of PumpHeld, per held I/O. Checking one held I/O takes only a
// small part of it.
constexpr uint64_t kPumpPauseNsPerIo = 500;

bool Writes(IoType type) {
  return type == IoType::kWrite || type == IoType::kWriteZeroes || type == IoType::kUnmap;
}

void Add(std::atomic<uint64_t>& counter, uint64_t value) {
  counter.store(counter.load(std::memory_order_relaxed) + value, std::memory_order_relaxed);
}

}  // namespace

Channel::Channel(Bdev& bdev, Reactor& reactor)
    : bdev_(bdev), reactor_(reactor), table_(bdev.channels_) {
  for (size_t i = 0; i < kIoTypeCount; ++i) {
    if (bdev.Supports(static_cast<IoType>(i))) native_types_ |= 1U << i;
  }
  const Bdev::Info& info = bdev.info();
  flush_after_fua_ = info.write_cache && !info.native_fua && IsNative(IoType::kFlush);
  table_->Add(*this);
}

Channel::~Channel() {
  assert(outstanding_ == 0);
  reactor_.CancelTimer(pump_timer_);
  table_->Remove(*this);
}

void Channel::Submit(Io& io) {
  io.channel = this;
  io.submit_ns = reactor_.now_ns();
  io.due_ns = 0;
  io.phase = kPlain;
  ++outstanding_;
  if (IoStatus status = Check(io); status != IoStatus::kOk) return Finish(io, status);
  const uint32_t gate = bdev_.gate_.load(std::memory_order_relaxed);
  if (gate == 0 && held_.empty()) [[likely]] {
    return Dispatch(io);
  }
  if (gate == Bdev::kLimited) return SubmitLimited(io);
  Hold(io);
  PumpHeld();
}

// Does not recompute the due times of I/Os that are already waiting, since there may be many.
void Channel::SubmitLimited(Io& io) {
  const uint64_t now_ns = reactor_.now_ns();
  io.due_ns = bdev_.limiter_.Reserve(io, bdev_.block_size(), now_ns);
  if (io.due_ns <= now_ns) return Dispatch(io);
  Hold(io);
  PumpAt(io.due_ns);
}

IoStatus Channel::Check(const Io& io) const {
  if (Writes(io.type) && (!may_write_ || bdev_.info().read_only)) return IoStatus::kReadOnly;
  if (io.type == IoType::kFlush && io.block_count == 0) return IoStatus::kOk;
  return InRange(io.lba, io.block_count) ? IoStatus::kOk : IoStatus::kOutOfRange;
}

bool Channel::InRange(uint64_t lba, uint64_t block_count) const {
  uint64_t size = bdev_.block_count();
  return block_count != 0 && lba < size && block_count <= size - lba;
}

void Channel::Dispatch(Io& io) {
  if (!IsNative(io.type)) return Emulate(io);
  if (io.fua && flush_after_fua_) io.phase = kFlushFollows;
  DoSubmit(io);
}

void Channel::Emulate(Io& io) {
  switch (io.type) {
    case IoType::kFlush:
    case IoType::kUnmap:
      return Finish(io, IoStatus::kOk);
    case IoType::kWriteZeroes:
    case IoType::kCompare:
      io.phase = kEmulated;
      if (!emulator_) emulator_ = std::make_unique<Emulator>(*this);
      return emulator_->Run(io);
    case IoType::kRead:
    case IoType::kWrite:
      break;
  }
  Finish(io, IoStatus::kUnsupported);
}

void Channel::SubmitChild(Io& child) {
  child.channel = this;
  child.phase = kOfEmulator;
  DoSubmit(child);
}

void Channel::Complete(Io& io, IoStatus status) {
  if (io.phase != kPlain) [[unlikely]]
    return CompletePhase(io, status);
  Finish(io, status);
}

void Channel::CompletePhase(Io& io, IoStatus status) {
  if (io.phase == kOfEmulator) return emulator_->OnChildDone(status);
  if (io.phase == kFlushFollows && status == IoStatus::kOk) {
    io.phase = kFlushing;
    io.requested = io.type;
    io.type = IoType::kFlush;
    return DoSubmit(io);
  }
  if (io.phase == kFlushing) io.type = io.requested;
  Finish(io, status);
}

void Channel::Finish(Io& io, IoStatus status) {
  --outstanding_;
  if (status == IoStatus::kOk || status == IoStatus::kMiscompare) {
    uint64_t bytes = io.type == IoType::kFlush ? 0 : io.block_count * bdev_.block_size();
    Count(io.type, bytes, reactor_.now_ns() - io.submit_ns);
  } else {
    Add(errors_, 1);
  }
  if (quiet_token_ && in_module() == 0) quiet_token_.reset();
  io.done(io, status);
}

const std::byte* Channel::ReadInPlace(uint64_t lba, uint64_t block_count) {
  return AccessInPlace(IoType::kRead, lba, block_count);
}

std::byte* Channel::WriteInPlace(uint64_t lba, uint64_t block_count) {
  if (!may_write_ || bdev_.info().read_only) return nullptr;
  return AccessInPlace(IoType::kWrite, lba, block_count);
}

std::byte* Channel::AccessInPlace(IoType type, uint64_t lba, uint64_t block_count) {
  if (bdev_.gate_.load(std::memory_order_relaxed) != 0 || !InRange(lba, block_count)) {
    return nullptr;
  }
  std::byte* memory = DoAccessInPlace(type, lba, block_count);
  if (memory != nullptr) Count(type, block_count * bdev_.block_size(), 0);
  return memory;
}

void Channel::Hold(Io& io) {
  io.phase = kHeld;
  held_.Append(io);
  ++held_count_;
}

void Channel::Unhold(Io& io) {
  IoQueue::Remove(io);
  --held_count_;
}

// The I/Os that may proceed are first moved to a list, because their completions may submit, abort
// or pump, and the last one may destroy the channel.
void Channel::PumpHeld() {
  uint32_t gate = bdev_.gate_.load(std::memory_order_relaxed);
  if ((gate & (Bdev::kFrozen | Bdev::kRemoved)) == Bdev::kFrozen) return;
  bool limited = (gate & (Bdev::kLimited | Bdev::kRemoved)) == Bdev::kLimited;
  uint64_t now_ns = reactor_.now_ns();
  last_pump_ns_ = now_ns;
  uint64_t next_due_ns = UINT64_MAX;
  IoQueue ready;
  for (Io* io = held_.first(); io != nullptr;) {
    Io* next = held_.After(*io);
    if (limited && io->due_ns == 0) {
      io->due_ns = bdev_.limiter_.Reserve(*io, bdev_.block_size(), now_ns);
    }
    if (limited && io->due_ns > now_ns) {
      next_due_ns = std::min(next_due_ns, io->due_ns);
    } else {
      Unhold(*io);
      io->phase = kReady;
      ready.Append(*io);
    }
    io = next;
  }
  if (next_due_ns != UINT64_MAX) PumpAt(next_due_ns);
  while (!ready.empty()) {
    Io& io = ready.TakeFirst();
    io.phase = kPlain;
    if ((gate & Bdev::kRemoved) != 0) {
      Finish(io, IoStatus::kGone);
    } else {
      Dispatch(io);
    }
  }
}

// One timer serves all held I/O, so that a throttled channel wakes its reactor at most a thousand
// times per second, and less often the more I/O has to be checked. All I/O that is overdue is then
// dispatched together.
void Channel::PumpAt(uint64_t due_ns) {
  if (pump_timer_ != 0 && pump_timer_due_ns_ <= due_ns) return;
  reactor_.CancelTimer(pump_timer_);
  const uint64_t pause_ns = std::max(kMinPumpPauseNs, held_count_ * kPumpPauseNsPerIo);
  const uint64_t pump_ns = std::max(due_ns, last_pump_ns_ + pause_ns);
  const uint64_t now_ns = reactor_.now_ns();
  const uint64_t after_ns = pump_ns > now_ns ? pump_ns - now_ns : 0;
  pump_timer_due_ns_ = due_ns;
  pump_timer_ = reactor_.AddTimer(std::chrono::nanoseconds(after_ns), [this] {
    pump_timer_ = 0;
    PumpHeld();
  });
}

// Cancels the reservations of held I/O. Called when the limits have changed.
void Channel::ForgetDueTimes() {
  for (Io* held = held_.first(); held != nullptr; held = held_.After(*held)) {
    if (std::exchange(held->due_ns, 0) != 0) bdev_.limiter_.Cancel(*held, bdev_.block_size());
  }
  reactor_.CancelTimer(std::exchange(pump_timer_, 0));
}

bool Channel::Abort(Io& io) {
  switch (io.phase) {
    case kHeld:
      AbortHeld(io);
      return true;
    case kReady:
      IoQueue::Remove(io);
      Finish(io, IoStatus::kAborted);
      return true;
    case kEmulated:
      return emulator_->Abort(io);
    default:
      return DoAbort(io);
  }
}

void Channel::AbortHeld(Io& io) {
  Unhold(io);
  if (io.due_ns != 0) bdev_.limiter_.Cancel(io, bdev_.block_size());
  Finish(io, IoStatus::kAborted);
}

void Channel::BeginReset(ChannelTable::Token quiet) {
  DoReset();
  if (in_module() != 0) quiet_token_ = std::move(quiet);
}

void Channel::Count(IoType type, uint64_t bytes, uint64_t latency_ns) {
  Counters& counters = counters_[static_cast<size_t>(type)];
  Add(counters.ops, 1);
  Add(counters.bytes, bytes);
  Add(counters.latency_ns, latency_ns);
  uint64_t min = counters.min_latency_ns.load(std::memory_order_relaxed);
  if (latency_ns != 0 && (min == 0 || latency_ns < min)) {
    counters.min_latency_ns.store(latency_ns, std::memory_order_relaxed);
  }
  if (latency_ns > counters.max_latency_ns.load(std::memory_order_relaxed)) {
    counters.max_latency_ns.store(latency_ns, std::memory_order_relaxed);
  }
}

void Channel::ResetCounters(bool min_max_only) {
  for (Counters& counters : counters_) {
    counters.min_latency_ns = 0;
    counters.max_latency_ns = 0;
    if (min_max_only) continue;
    counters.ops = 0;
    counters.bytes = 0;
    counters.latency_ns = 0;
  }
  if (!min_max_only) errors_ = 0;
}

IoStats Channel::stats() const {
  IoStats stats;
  for (size_t i = 0; i < kIoTypeCount; ++i) {
    const Counters& from = counters_[i];
    stats.by_type[i] = {.ops = from.ops.load(std::memory_order_relaxed),
                        .bytes = from.bytes.load(std::memory_order_relaxed),
                        .latency_ns = from.latency_ns.load(std::memory_order_relaxed),
                        .min_latency_ns = from.min_latency_ns.load(std::memory_order_relaxed),
                        .max_latency_ns = from.max_latency_ns.load(std::memory_order_relaxed)};
  }
  stats.errors = errors_.load(std::memory_order_relaxed);
  return stats;
}

}  // namespace sma::storage_target::bdev
