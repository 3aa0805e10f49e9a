#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "target/bdev/io.h"

namespace sma::target {
class Reactor;
}

namespace sma::target::bdev {

class Bdev;
class Emulator;
class Limiter;

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

  /// Ends `io`, submitted here and not yet answered, early with kAborted if it still waits in this
  /// layer (for a limit, or for a reset to end). False when the module has it: it will be answered
  /// in its own time.
  bool Abort(Io& io);

  /// For a read without copying: the blocks' memory itself where the bdev has them in memory
  /// (malloc, null); nullptr otherwise, for a bad range, or while a limit, a reset or a removal
  /// forbids it: then Submit. Valid as long as the channel; counted as a read. A concurrent write
  /// may change the bytes, so not for a transport that sums them first.
  const std::byte* ReadInPlace(uint64_t lba, uint64_t block_count);

  /// The same for a write: memory for the submitter to fill; it is the medium itself. nullptr as
  /// above, and for a bdev or descriptor that takes no writes.
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
  /// A reset has begun: complete soon what is outstanding, with kAborted where it cannot be done.
  virtual void DoReset() {}
  /// Answers `io`; the module does not touch it afterwards.
  void Complete(Io& io, IoStatus status);

 private:
  friend class Bdev;
  friend class Emulator;
  friend class Limiter;
  friend class Descriptor;

  // Written by this reactor alone, read by the control plane.
  struct Counters {
    std::atomic<uint64_t> ops{0}, bytes{0}, latency_ns{0}, min_latency_ns{0}, max_latency_ns{0};
  };

  IoStatus Check(const Io& io) const;
  void SubmitGated(Io& io);
  void Dispatch(Io& io);
  void Finish(Io& io, IoStatus status);
  std::byte* AccessInPlace(IoType type, uint64_t lba, uint64_t block_count);
  void Count(IoType type, uint64_t bytes, uint64_t latency_ns);
  void Hold(Io& io);
  void Release();  // dispatches what was held
  void ResetCounters();
  IoStats stats() const;

  Bdev& bdev_;
  Reactor& reactor_;
  bool may_write_ = false;
  uint32_t outstanding_ = 0;
  Io* held_head_ = nullptr;
  Io* held_tail_ = nullptr;
  std::unique_ptr<Emulator> emulator_;
  std::array<Counters, kIoTypeCount> counters_;
  std::atomic<uint64_t> errors_{0};
};

}  // namespace sma::target::bdev
