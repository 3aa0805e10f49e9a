#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/errno_or.h"
#include "base/uuid.h"

namespace sma::target {
class Reactor;
}

namespace sma::target::bdev {

class Bdev;
class Channel;

enum class IoType : uint8_t { kRead, kWrite, kFlush, kUnmap, kWriteZeroes, kCompare };
inline constexpr size_t kIoTypeCount = 6;

/// How an I/O ended. Frontends map it to their own protocol's status.
enum class IoStatus : uint8_t {
  kOk,
  kFailed,        // the medium or the remote side failed
  kOutOfRange,    // beyond the last block
  kMiscompare,    // kCompare: the data differ
  kUnsupported,   // the bdev does not do this type
  kReadOnly,      // a write to a bdev that takes none
  kNoSpace,       // thin provisioned, and the file system below is full
  kGone,          // the bdev was removed
  kAborted,       // by a reset or by the submitter
};

/// One I/O. The submitter embeds it in its own request, fills the first part, calls Channel::Submit and leaves it
/// alone until `done`, which runs in the channel's reactor, possibly before Submit returns. No part of this path
/// allocates, blocks or throws.
struct Io {
  // The submitter's.
  IoType type = IoType::kRead;
  bool fua = false;          // kWrite, kWriteZeroes: durable when done
  uint64_t lba = 0;          // in blocks of the bdev
  uint64_t block_count = 0;  // kFlush: 0 means all
  const iovec* iovs = nullptr;  // kRead, kWrite, kCompare: exactly block_count * block_size bytes in all
  uint32_t iov_count = 0;
  void (*done)(Io& self, IoStatus status) = nullptr;

  // The bdev layer's and the module's, from Submit to `done`.
  Channel* channel = nullptr;
  uint64_t submit_ns = 0;
  Io* next = nullptr;
  alignas(16) std::array<std::byte, 160> scratch;  // the module's; not initialised
};

/// Counters of one bdev, summed over its channels. Latencies in nanoseconds.
struct IoStats {
  struct PerType {
    uint64_t ops = 0;
    uint64_t bytes = 0;
    uint64_t latency_ns = 0;
    uint64_t min_latency_ns = 0;
    uint64_t max_latency_ns = 0;
  };
  std::array<PerType, kIoTypeCount> by_type;
  uint64_t errors = 0;
};

/// A bdev as one reactor uses it: made by Descriptor::OpenChannel in the reactor's thread, used and destroyed there.
/// Modules derive from it. Submit is the only way in for I/O.
class Channel {
 public:
  virtual ~Channel() = default;
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  /// Checks type and range, applies the limits, counts, and hands `io` to the module. Every submitted I/O is
  /// answered exactly once.
  void Submit(Io& io);

  /// For a read: the blocks' memory itself when the bdev has them in memory (malloc), so that they can be sent
  /// without copying; nullptr otherwise or when a limit is set. Valid until the bdev is removed; counted as a read.
  /// A concurrent write may change the bytes.
  const std::byte* ReadInPlace(uint64_t lba, uint64_t block_count);

  Bdev& bdev() const { return bdev_; }
  Reactor& reactor() const { return reactor_; }
  /// Submitted and not yet answered.
  uint32_t outstanding() const { return outstanding_; }

 protected:
  Channel(Bdev& bdev, Reactor& reactor) : bdev_(bdev), reactor_(reactor) {}

  /// The module's part: `io` has been checked. Ends in Complete(io, status), now or later, in this reactor.
  virtual void DoSubmit(Io& io) = 0;
  /// nullptr: not in memory. `lba` and `block_count` have been checked.
  virtual const std::byte* DoReadInPlace(uint64_t /*lba*/, uint64_t /*block_count*/) {
    return nullptr;
  }
  /// Answers `io`; the module does not touch it afterwards.
  void Complete(Io& io, IoStatus status);

 private:
  friend class Registry;
  friend class Limiter;
  Bdev& bdev_;
  Reactor& reactor_;
  uint32_t outstanding_ = 0;
  IoStats stats_;
};

/// What the owner of an open bdev is told. All run in the control reactor.
class DescriptorEvents {
 public:
  virtual ~DescriptorEvents() = default;
  /// The bdev is going: end I/O, close the channels and destroy the descriptor soon. I/O submitted from now on
  /// ends with kGone; the bdev's memory stays until the last descriptor is gone.
  virtual void OnBdevRemove() = 0;
  /// block_count() has changed.
  virtual void OnBdevResize() = 0;
};

/// An open bdev. Made by Registry::Open and destroyed in the control reactor, after its channels.
class Descriptor {
 public:
  virtual ~Descriptor() = default;
  virtual Bdev& bdev() const = 0;
  /// In the thread of `reactor`. The channel is destroyed in the same thread.
  virtual std::unique_ptr<Channel> OpenChannel(Reactor& reactor) = 0;
  /// Takes the exclusive right to write, for a stacked bdev or an exported namespace: others may then open read-only
  /// or not at all. 0, or EPERM when claimed already. Given up when the descriptor is destroyed.
  virtual int Claim(const std::string& claimant) = 0;
};

/// Which name: value pairs a module adds to `driver_specific` in bdev_get_bdevs. A tree of plain values, so that JSON
/// stays in the rpc folder.
struct DriverInfo;

/// A block device. Modules derive from it. Created and destroyed in the control reactor; the accessors are constant
/// while it is registered, except block_count(), and may be read from any reactor.
class Bdev {
 public:
  struct Info {
    std::string name;
    base::Uuid uuid;
    std::string product_name;  // "Malloc disk": as SPDK names the same module
    uint32_t block_size = 512;  // bytes
    uint64_t block_count = 0;
    bool write_cache = false;         // a flush means something
    bool read_only = false;
    uint32_t optimal_io_blocks = 0;   // 0: no preference
    uint64_t max_unmap_blocks = 0;    // 0: no limit
  };

  explicit Bdev(Info info) : info_(std::move(info)) {}
  virtual ~Bdev() = default;
  Bdev(const Bdev&) = delete;
  Bdev& operator=(const Bdev&) = delete;

  const Info& info() const { return info_; }
  const std::string& name() const { return info_.name; }
  uint64_t block_count() const;  // any thread
  uint32_t block_size() const { return info_.block_size; }

  virtual bool Supports(IoType type) const = 0;

 protected:
  friend class Registry;
  virtual std::unique_ptr<Channel> MakeChannel(Reactor& reactor) = 0;
  Info info_;
};

}  // namespace sma::target::bdev
