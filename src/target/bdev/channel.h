#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>

#include "target/bdev/channel_table.h"
#include "target/bdev/io.h"
#include "target/bdev/io_queue.h"

namespace sma::target {
class Reactor;
}

namespace sma::target::bdev {

class Bdev;
class Emulator;

/// A bdev as one reactor uses it: made by Descriptor::OpenChannel in the reactor's thread, used and
/// destroyed there when no I/O is outstanding. Modules derive from it. Submit is the only way in
/// for I/O.
class Channel {
 public:
  virtual ~Channel();
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  /// Checks type and range, applies the limits, counts, and hands `io` to the module. Every
  /// submitted I/O is answered exactly once. What the module lacks is done here: kWriteZeroes by
  /// writes, kCompare by reads, `fua` by a flush afterwards; kFlush without a write cache and
  /// kUnmap (which is advice) then do nothing and succeed.
  void Submit(Io& io);

  /// Stops `io`, which was submitted here and has not been answered. True when it has been answered
  /// with kAborted before the return: it waited here (for a limit, for a reset to end, for another
  /// I/O to be emulated), or the module could end it. False when it is on its way to the medium: it
  /// is answered in its own time, and no part of it is sent to the medium from now on. `done` may
  /// destroy the channel, as in Submit.
  bool Abort(Io& io);

  /// For a read without copying: the blocks' memory itself where the bdev has them in memory
  /// (malloc, null); nullptr otherwise, for a bad range, or while a limit, a reset or a removal
  /// forbids it: then Submit. Mapped as long as the channel; counted as a read. A later write
  /// through this reactor may change the bytes, so not for a transport that sums them first, and a
  /// block that is used in part has to be copied before the reactor does anything else. Once the
  /// caller has returned to its loop, other reactors may write the blocks, too: check IsInPlace.
  const std::byte* ReadInPlace(uint64_t lba, uint64_t block_count);

  /// Returns whether memory that ReadInPlace has returned may still be read until the caller
  /// returns to its loop. If false, use CopyOut.
  bool IsInPlace() const { return DoIsInPlace(); }

  /// Copies whole blocks of memory that ReadInPlace has returned, each as one write has left it.
  void CopyOut(const std::byte* from, std::byte* to, size_t size_bytes) {
    DoCopyOut(from, to, size_bytes);
  }

  /// The same for a write: memory for the submitter to fill at once, by CopyToMedium; it is the
  /// medium itself. nullptr as above, and for a bdev or descriptor that takes no writes.
  std::byte* WriteInPlace(uint64_t lba, uint64_t block_count);

  Bdev& bdev() const { return bdev_; }
  Reactor& reactor() const { return reactor_; }
  /// Submitted and not yet answered.
  uint32_t outstanding() const { return outstanding_; }

 protected:
  Channel(Bdev& bdev, Reactor& reactor);

  /// The module's part: `io` has been checked and is of a type that Bdev::Supports. Ends in
  /// Complete(io, status), now or later, in this reactor.
  virtual void DoSubmit(Io& io) = 0;
  /// nullptr: not in memory. The range has been checked.
  virtual std::byte* DoAccessInPlace(IoType /*type*/, uint64_t /*lba*/, uint64_t /*block_count*/) {
    return nullptr;
  }
  /// See IsInPlace and CopyOut. Overridden by a module whose blocks other reactors may write, and
  /// by one that stacks on such a module.
  virtual bool DoIsInPlace() const { return true; }
  virtual void DoCopyOut(const std::byte* from, std::byte* to, size_t size_bytes) {
    std::memcpy(to, from, size_bytes);
  }
  /// A reset has begun: complete soon what is outstanding, with kAborted where it cannot be done.
  virtual void DoReset() {}
  /// Stops `io`, which DoSubmit was given and Complete was not called for. True: it has been
  /// answered by Complete(io, kAborted) in here, because none of it is with the medium. False: it
  /// ends in its own time, as what it has come to by then, and the module sends no further part of
  /// it. A stacked module forwards this to the channel below.
  virtual bool DoAbort(Io& /*io*/) { return false; }
  /// Answers `io`; the module does not touch it afterwards.
  void Complete(Io& io, IoStatus status);

 private:
  friend class ChannelTable;
  friend class Descriptor;
  friend class Emulator;
  friend class Registry;

  // Written by this reactor alone, read by the control plane.
  struct Counters {
    std::atomic<uint64_t> ops{0}, bytes{0}, latency_ns{0}, min_latency_ns{0}, max_latency_ns{0};
  };

  bool IsNative(IoType type) const { return (native_types_ >> static_cast<int>(type) & 1) != 0; }
  IoStatus Check(const Io& io) const;
  bool InRange(uint64_t lba, uint64_t block_count) const;
  void Dispatch(Io& io);
  void Emulate(Io& io);
  void SubmitChild(Io& child);  // the emulator's; completes into it
  void CompletePhase(Io& io, IoStatus status);
  void Finish(Io& io, IoStatus status);
  std::byte* AccessInPlace(IoType type, uint64_t lba, uint64_t block_count);
  void Count(IoType type, uint64_t bytes, uint64_t latency_ns);

  // I/O that waits in this layer.
  void Hold(Io& io);
  void Unhold(Io& io);
  void AbortHeld(Io& io);
  void PumpHeld();  // goes on with it, as far as the bdev's gate lets it
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
  uint64_t pump_timer_ = 0;  // 0: none
  uint64_t pump_timer_due_ns_ = 0;
  ChannelTable::Token quiet_token_;  // given back when the module has nothing any more
  std::unique_ptr<Emulator> emulator_;
  std::array<Counters, kIoTypeCount> counters_;
  std::atomic<uint64_t> errors_{0};
};

}  // namespace sma::target::bdev
