// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>

#include "storage_target/bdev/channel_table.h"
#include "storage_target/bdev/io.h"
#include "storage_target/bdev/io_queue.h"

namespace sma::storage_target {
class Reactor;
}

namespace sma::storage_target::bdev {

class Bdev;
class Emulator;

/// One reactor's access to a bdev. Created by Descriptor::OpenChannel on the reactor's thread, used
/// there, and destroyed there when no I/O is in flight. Modules derive from it. All I/O enters
/// through Submit.
class Channel {
 public:
  virtual ~Channel();
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  /// Checks the type and the range of `io`, applies the limits, updates the counters, and passes
  /// `io` to the module. Every submitted I/O completes exactly once. Operations that the module
  /// lacks are emulated: kWriteZeroes by writes, kCompare by reads, `fua` by a flush after the
  /// write. kFlush without a write cache, and kUnmap (which is advisory) where the module lacks it,
  /// succeed without any action.
  void Submit(Io& io);

  /// Aborts `io`, which was submitted here and has not completed. Returns true if it has completed
  /// with kAborted before the return, because it was waiting here (for a limit, a reset or another
  /// emulated I/O) or because the module could cancel it. Returns false if it has been sent to the
  /// medium: it then completes normally, but no further part of it is sent. `done` may destroy the
  /// channel, as in Submit.
  bool Abort(Io& io);

  /// Reads without copying: returns the blocks' own memory if the bdev keeps them in memory
  /// (malloc, null). Returns nullptr otherwise, for an invalid range, or while a limit, a reset or
  /// a removal is in effect; use Submit then. The memory stays mapped for the channel's lifetime,
  /// and the access counts as a read. A later write through this reactor may change the bytes, so a
  /// transport that computes a digest first must not use this, and a partially sent block must be
  /// copied before the reactor does anything else. After the caller has returned to its loop, or to
  /// another function that the loop has called, other reactors may also write the blocks; check
  /// IsInPlace then, if InPlaceRevocations (in_place.h) has changed.
  const std::byte* ReadInPlace(uint64_t lba, uint64_t block_count);

  /// Returns true if memory returned by ReadInPlace may still be read until the caller returns to
  /// its loop. If false, use CopyOut.
  bool IsInPlace() const { return DoIsInPlace(); }

  /// Copies whole blocks of memory that ReadInPlace has returned. Each copied block is consistent,
  /// that is, not torn by a concurrent write.
  void CopyOut(const std::byte* from, std::byte* to, size_t size_bytes) {
    DoCopyOut(from, to, size_bytes);
  }

  /// Like ReadInPlace, for a write: returns the medium's own memory, which the submitter fills
  /// immediately with CopyToMedium. Returns nullptr in the same cases, and if the bdev or
  /// descriptor is read-only.
  std::byte* WriteInPlace(uint64_t lba, uint64_t block_count);

  Bdev& bdev() const { return bdev_; }
  Reactor& reactor() const { return reactor_; }
  /// Returns the number of I/Os that have been submitted and have not completed.
  uint32_t outstanding() const { return outstanding_; }

 protected:
  Channel(Bdev& bdev, Reactor& reactor);

  /// Executes `io` in the module. `io` has been checked, and Bdev::Supports its type. Ends with
  /// Complete(io, status), immediately or later, on this reactor.
  virtual void DoSubmit(Io& io) = 0;
  /// Returns nullptr if the blocks are not in memory. The range has been checked.
  virtual std::byte* DoAccessInPlace(IoType /*type*/, uint64_t /*lba*/, uint64_t /*block_count*/) {
    return nullptr;
  }
  /// See IsInPlace and CopyOut. Overridden by a module whose blocks other reactors may write, and
  /// by modules stacked on such a module.
  virtual bool DoIsInPlace() const { return true; }
  virtual void DoCopyOut(const std::byte* from, std::byte* to, size_t size_bytes) {
    std::memcpy(to, from, size_bytes);
  }
  /// Called when a reset has begun: complete the I/O in flight soon, with kAborted if it cannot be
  /// executed.
  virtual void DoReset() {}
  /// Aborts `io`, which was passed to DoSubmit and has not completed. Returns true if none of it
  /// has reached the medium and it has been completed with kAborted within this call. Returns false
  /// if it will complete normally after the parts that have already been sent; the module sends no
  /// further part of it. A stacked module forwards this to the channel below.
  virtual bool DoAbort(Io& /*io*/) { return false; }
  /// Completes `io`. The module must not use it afterwards.
  void Complete(Io& io, IoStatus status);

 private:
  friend class ChannelTable;
  friend class Descriptor;
  friend class Emulator;
  friend class Registry;

  // Written only on this reactor, read by the control plane.
  struct Counters {
    std::atomic<uint64_t> ops{0}, bytes{0}, latency_ns{0}, min_latency_ns{0}, max_latency_ns{0};
  };

  bool IsNative(IoType type) const { return (native_types_ >> static_cast<int>(type) & 1) != 0; }
  IoStatus Check(const Io& io) const;
  bool InRange(uint64_t lba, uint64_t block_count) const;
  void SubmitLimited(Io& io);
  void Dispatch(Io& io);
  void Emulate(Io& io);
  void SubmitChild(Io& child);  // for the emulator; completes into it
  void CompletePhase(Io& io, IoStatus status);
  void Finish(Io& io, IoStatus status);
  std::byte* AccessInPlace(IoType type, uint64_t lba, uint64_t block_count);
  void Count(IoType type, uint64_t bytes, uint64_t latency_ns);

  // Functions for I/O that is waiting in this layer.
  void Hold(Io& io);
  void Unhold(Io& io);
  void AbortHeld(Io& io);
  void PumpHeld();  // dispatches held I/O as far as the bdev's gate permits
  void PumpAt(uint64_t due_ns);
  void ForgetDueTimes();
  uint32_t in_module() const { return outstanding_ - held_count_; }

  // Called by the registry through the channel table.
  void BeginReset(ChannelTable::Token quiet);
  void ResetCounters(bool min_max_only);
  IoStats stats() const;

  Bdev& bdev_;
  Reactor& reactor_;
  const std::shared_ptr<ChannelTable> table_;
  uint32_t native_types_ = 0;
  bool may_write_ = false;
  bool flush_after_fua_ = false;
  uint32_t outstanding_ = 0;
  uint32_t held_count_ = 0;
  IoQueue held_;
  uint64_t pump_timer_ = 0;  // 0 for none
  uint64_t pump_timer_due_ns_ = 0;
  uint64_t last_pump_ns_ = 0;
  ChannelTable::Token quiet_token_;  // released when the module has no I/O left
  std::unique_ptr<Emulator> emulator_;
  std::array<Counters, kIoTypeCount> counters_;
  std::atomic<uint64_t> errors_{0};
};

}  // namespace sma::storage_target::bdev
