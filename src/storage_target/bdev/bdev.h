// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/uuid.h"
#include "storage_target/bdev/channel.h"
#include "storage_target/bdev/channel_table.h"
#include "storage_target/bdev/io.h"
#include "storage_target/bdev/limiter.h"
#include "storage_target/bdev/value.h"

namespace sma::storage_target {
class Reactor;
}

namespace sma::storage_target::bdev {

class Bdev;
class Registry;

/// Callbacks for the owner of an open bdev. Called on the control reactor.
class DescriptorEvents {
 public:
  virtual ~DescriptorEvents() = default;
  /// Called when the bdev is being removed: complete the I/O in flight, then destroy the channels
  /// and the descriptor soon; the descriptor may be destroyed from within this call. I/O submitted
  /// from now on completes with kGone. The bdev stays valid until its last descriptor and channel
  /// are destroyed.
  virtual void OnBdevRemove() = 0;
  /// Called when block_count() has changed.
  virtual void OnBdevResize() = 0;
};

/// An open bdev, returned by Registry::Open. Destroyed on the control reactor; its channels may
/// outlive it.
class Descriptor {
 public:
  ~Descriptor();
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  Bdev& bdev() const { return bdev_; }
  /// Opens a channel. Call on the thread of `reactor` while the descriptor exists, and destroy the
  /// channel on the same thread. Never returns null.
  std::unique_ptr<Channel> OpenChannel(Reactor& reactor);
  /// Claims the exclusive right to write, for a stacked bdev or an exported namespace: from now on
  /// Registry::Open for writing fails for others; descriptors that are already open keep their
  /// rights. Returns 0, or EPERM if the bdev is already claimed. The claim ends with the
  /// descriptor.
  int Claim(std::string claimant);

 private:
  friend class Registry;
  Descriptor(Registry& registry, Bdev& bdev, bool may_write, DescriptorEvents* events)
      : registry_(registry), bdev_(bdev), may_write_(may_write), events_(events) {}
  Registry& registry_;
  Bdev& bdev_;
  bool may_write_;  // a claim implies the right to write, as in SPDK
  DescriptorEvents* events_;
};

/// A block device; modules derive from it. Created, used and destroyed on the control reactor
/// unless a member says otherwise. The public virtual functions are called by the registry and the
/// JSON-RPC handlers.
class Bdev {
 public:
  struct Info {
    std::string name{};
    base::Uuid uuid{};           // nil: Registry::Register generates a random one
    std::string product_name{};  // "Malloc disk": as SPDK names the same module
    uint32_t block_size = 512;   // bytes; a power of two from 512 to 1 MiB
    uint64_t block_count = 0;
    bool write_cache = false;  // the device has a volatile write cache, so flushes matter
    bool native_fua = false;   // the module implements Io::fua; otherwise a flush follows the write
    bool read_only = false;    // writes fail with kReadOnly
    bool unmap_reads_zero = false;          // unmapped blocks read as zeroes until written
    bool write_zeroes_deallocates = false;  // the module implements Io::deallocate
    /// Identifies the medium below independently of the path that leads to it ("file:DEVICE:INODE",
    /// "blkdev:MAJOR:MINOR"), because two bdevs on one medium would overwrite each other. Empty if
    /// there is no medium, or if it is identified elsewhere.
    std::string medium{};
    uint32_t buffer_alignment =
        1;  // bytes; iovs aligned to this (address and length) are not copied
    uint64_t max_unmap_blocks = 0;  // 0: no limit
    std::optional<int> numa_id{};
    // Preferred alignment and sizes in blocks; 0 for no preference.
    uint32_t write_alignment = 0;
    uint32_t write_granularity = 0;
    uint32_t optimal_write_size = 0;
    uint32_t unmap_alignment = 0;
    uint32_t unmap_granularity = 0;
    // Additional names for supported_io_types in bdev_get_bdevs besides those of IoType, for
    // example "abort" or "zcopy".
    std::vector<std::string> extra_io_types{};
  };

  explicit Bdev(Info info);
  virtual ~Bdev();
  Bdev(const Bdev&) = delete;
  Bdev& operator=(const Bdev&) = delete;

  // May be called from any thread.
  const Info& info() const { return info_; }
  const std::string& name() const { return info_.name; }
  uint32_t block_size() const { return info_.block_size; }
  /// Returns the current number of blocks. It is the only property that changes; Info contains the
  /// number at creation.
  uint64_t block_count() const { return block_count_.load(std::memory_order_relaxed); }

  /// Returns the module's short name, such as "null". For example, bdev_null_delete deletes only
  /// bdevs of the module "null".
  virtual std::string_view module() const = 0;
  /// Returns true if the module itself implements this type. The answer never changes. May be
  /// called from any thread.
  virtual bool Supports(IoType type) const = 0;
  /// Returns the members of driver_specific in bdev_get_bdevs.
  virtual Object DriverSpecific() const { return {}; }
  /// Appends the calls that recreate this bdev; appends nothing for a bdev that its module creates
  /// on its own.
  virtual void SaveConfig(std::vector<ConfigCall>& /*calls*/) const {}
  /// Resets the device itself. Called when no channel has I/O in flight. Calls `done` with 0 or an
  /// errno value.
  virtual void ResetDevice(std::function<void(int error)> done) { done(0); }

  /// Returns the sum over all channels, including closed ones.
  IoStats stats() const { return channels_->stats(); }
  /// Returns the statistics of each open channel with its reactor, which lives as long as the
  /// program.
  std::vector<std::pair<const Reactor*, IoStats>> channel_stats() const {
    return channels_->channel_stats();
  }
  /// Returns the name of the claimant; nullopt if the bdev is not claimed.
  const std::optional<std::string>& claimant() const { return claimant_; }
  const Limits& limits() const { return limits_; }

 protected:
  /// Called by Descriptor::OpenChannel on the thread of `reactor`.
  virtual std::unique_ptr<Channel> MakeChannel(Reactor& reactor) = 0;

 private:
  friend class Registry;
  friend class Descriptor;
  friend class Channel;

  // Bits of gate_: the reasons why I/O is not passed directly to the module.
  static constexpr uint32_t kRemoved = 1;
  static constexpr uint32_t kFrozen = 2;
  static constexpr uint32_t kLimited = 4;

  Info info_;
  std::atomic<uint64_t> block_count_;
  std::atomic<uint32_t> gate_{0};

  // Used only on the control reactor.
  Registry* registry_ = nullptr;
  uint64_t serial_ = 0;
  bool removing_ = false;
  bool resetting_ = false;
  std::vector<std::function<void()>> on_removed_;
  std::vector<Descriptor*> descriptors_;
  std::optional<std::string> claimant_;
  Descriptor* claim_holder_ = nullptr;
  Limits limits_;

  std::shared_ptr<ChannelTable> channels_;  // set by Registry::Register
  Limiter limiter_;
};

}  // namespace sma::storage_target::bdev
