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
#include "target/bdev/channel.h"
#include "target/bdev/channel_table.h"
#include "target/bdev/io.h"
#include "target/bdev/limiter.h"
#include "target/bdev/value.h"

namespace sma::target {
class Reactor;
}

namespace sma::target::bdev {

class Bdev;
class Registry;

/// What the owner of an open bdev is told. All run in the control reactor.
class DescriptorEvents {
 public:
  virtual ~DescriptorEvents() = default;
  /// The bdev is going: end I/O, destroy the channels and the descriptor soon (the latter may be
  /// done in here). I/O submitted from now on ends with kGone; the bdev and its memory stay until
  /// the last of them is gone.
  virtual void OnBdevRemove() = 0;
  /// block_count() has changed.
  virtual void OnBdevResize() = 0;
};

/// An open bdev, made by Registry::Open. Destroyed in the control reactor; its channels may outlive
/// it.
class Descriptor {
 public:
  ~Descriptor();
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  Bdev& bdev() const { return bdev_; }
  /// In the thread of `reactor`, while the descriptor exists; the channel is destroyed in the same
  /// thread. Never null.
  std::unique_ptr<Channel> OpenChannel(Reactor& reactor);
  /// Takes the exclusive right to write, for a stacked bdev or an exported namespace:
  /// Registry::Open to write fails for others from then on. Those that have it open keep what they
  /// have. 0, or EPERM when it is claimed already. Given up when the descriptor is destroyed.
  int Claim(std::string claimant);

 private:
  friend class Registry;
  Descriptor(Registry& registry, Bdev& bdev, bool may_write, DescriptorEvents* events)
      : registry_(registry), bdev_(bdev), may_write_(may_write), events_(events) {}
  Registry& registry_;
  Bdev& bdev_;
  bool may_write_;  // a claim gives the right to write, as it does in SPDK
  DescriptorEvents* events_;
};

/// A block device. Modules derive from it. Made and destroyed in the control reactor and used
/// there, except for what says otherwise. What is public and virtual is called by the registry and
/// the rpc folder.
class Bdev {
 public:
  struct Info {
    std::string name{};
    base::Uuid uuid{};           // nil: Registry::Register makes a random one
    std::string product_name{};  // "Malloc disk": as SPDK names the same module
    uint32_t block_size = 512;   // bytes; a power of two from 512 to 1 MiB
    uint64_t block_count = 0;
    bool write_cache = false;  // a flush means something
    bool native_fua = false;   // Io::fua is honoured by the module; else a flush follows the write
    bool read_only = false;    // writes are refused with kReadOnly
    bool unmap_reads_zero = false;          // unmapped blocks read as zeroes until written
    bool write_zeroes_deallocates = false;  // Io::deallocate is honoured by the module
    /// The medium below by a text that is the same however it is reached ("file:DEVICE:INODE",
    /// "blkdev:MAJOR:MINOR"): two bdevs on one medium would overwrite each other. Empty: there is
    /// none, or it is told apart elsewhere.
    std::string medium{};
    uint32_t buffer_alignment =
        1;  // bytes; an Io's iovs aligned to it (address and length) are not copied
    uint64_t max_unmap_blocks = 0;  // 0: no limit
    std::optional<int> numa_id{};
    // Preferences in blocks; 0: none.
    uint32_t write_alignment = 0;
    uint32_t write_granularity = 0;
    uint32_t optimal_write_size = 0;
    uint32_t unmap_alignment = 0;
    uint32_t unmap_granularity = 0;
    // Names of bdev_get_bdevs' supported_io_types that hold beside those of IoType: "abort",
    // "zcopy", ...
    std::vector<std::string> extra_io_types{};
  };

  explicit Bdev(Info info);
  virtual ~Bdev();
  Bdev(const Bdev&) = delete;
  Bdev& operator=(const Bdev&) = delete;

  // Any thread.
  const Info& info() const { return info_; }
  const std::string& name() const { return info_.name; }
  uint32_t block_size() const { return info_.block_size; }
  /// The only part that changes: Info's is the count at the start.
  uint64_t block_count() const { return block_count_.load(std::memory_order_relaxed); }

  /// The module's short name, "null" say: bdev_null_delete deletes bdevs of this module only.
  virtual std::string_view module() const = 0;
  /// Whether the module does this type by itself, always the same answer. Any thread.
  virtual bool Supports(IoType type) const = 0;
  /// The members of driver_specific in bdev_get_bdevs.
  virtual Object DriverSpecific() const { return {}; }
  /// Appends what makes this bdev again; nothing for one that comes by itself.
  virtual void SaveConfig(std::vector<ConfigCall>& /*calls*/) const {}
  /// The device's part of a reset, when no I/O is outstanding in any channel. Calls `done` with 0
  /// or an errno value.
  virtual void ResetDevice(std::function<void(int error)> done) { done(0); }

  /// Sum over the channels that are and were.
  IoStats stats() const { return channels_->stats(); }
  /// Of the channels that are, with the reactor of each, which lives as long as the program.
  std::vector<std::pair<const Reactor*, IoStats>> channel_stats() const {
    return channels_->channel_stats();
  }
  /// Who has claimed it; nullopt when nobody has.
  const std::optional<std::string>& claimant() const { return claimant_; }
  const Limits& limits() const { return limits_; }

 protected:
  /// Called by Descriptor::OpenChannel in the thread of `reactor`.
  virtual std::unique_ptr<Channel> MakeChannel(Reactor& reactor) = 0;

 private:
  friend class Registry;
  friend class Descriptor;
  friend class Channel;

  // Bits of gate_: why I/O does not go straight to the module.
  static constexpr uint32_t kRemoved = 1;
  static constexpr uint32_t kFrozen = 2;
  static constexpr uint32_t kLimited = 4;

  Info info_;
  std::atomic<uint64_t> block_count_;
  std::atomic<uint32_t> gate_{0};

  // The control reactor's.
  Registry* registry_ = nullptr;
  uint64_t serial_ = 0;
  bool removing_ = false;
  bool resetting_ = false;
  std::vector<std::function<void()>> on_removed_;
  std::vector<Descriptor*> descriptors_;
  std::optional<std::string> claimant_;
  Descriptor* claim_holder_ = nullptr;
  Limits limits_;

  std::shared_ptr<ChannelTable> channels_;  // from Registry::Register on
  Limiter limiter_;
};

}  // namespace sma::target::bdev
