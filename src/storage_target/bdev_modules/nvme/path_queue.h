// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "storage_target/bdev_modules/nvme/subsystem_queues.h"

namespace sma::storage_target::bdev_nvme {

/// A path in one reactor, with its queue pair. The queue pair is null while the path is unused or
/// uses a lender's queue pair.
struct SubsystemQueues::PathQueue : initiator::ReactorQueuePair::Owner {
  /// Whether I/O can be sent on the path, and how well.
  enum class Access : uint8_t { kNo, kNonOptimized, kOptimized };

  PathQueue(SubsystemQueues& parent, const QueuePath& queue_path)
      : queues(parent), path(queue_path), back_offs(queue_path.disks.size()) {}

  void OnQueueReady(initiator::ReactorQueuePair& /*queue*/) override { queues.OnQueueReady(*this); }
  void OnQueueClosed(initiator::ReactorQueuePair& /*queue*/) override {
    queues.OnQueueClosed(*this);
  }
  void OnHeldEnded(initiator::ReactorQueuePair& /*queue*/) override { queues.OnHeldEnded(*this); }

  uint32_t key() const {
    return static_cast<uint32_t>((path.path_id & 0xffff) << 16 | (path.epoch & 0xffff));
  }
  bool ready() const { return path.lender ? lender_ready : queue && queue->ready(); }
  /// Returns true if the path reports the disk, in any ANA state.
  bool Shows(const DiskKey& disk) const {
    return !paused && disk.slot < path.disks.size() && path.disks[disk.slot].serial == disk.serial;
  }
  Access AccessTo(const DiskKey& disk, uint64_t now_ns) const {
    if (!ready() || !Shows(disk) || back_offs[disk.slot].until_ns > now_ns) return Access::kNo;
    switch (path.disks[disk.slot].state) {
      case nvme::AnaState::kOptimized:
        return Access::kOptimized;
      case nvme::AnaState::kNonOptimized:
        return Access::kNonOptimized;
      default:
        return Access::kNo;
    }
  }
  /// Called after a path error: suspends the path for I/O to this disk, for longer each time if
  /// errors follow each other closely. Returns the end of the back-off as a time of the reactor's
  /// clock.
  uint64_t BackOffDisk(const DiskKey& disk, uint64_t now_ns, std::chrono::nanoseconds at_least) {
    constexpr uint64_t kFirstNs = 50'000'000;
    constexpr uint64_t kLongestNs = 2'000'000'000;
    DiskBackOff& back_off = back_offs[disk.slot];
    if (back_off.until_ns > now_ns) return back_off.until_ns;  // another I/O of the same batch
    bool again = back_off.until_ns != 0 && now_ns - back_off.until_ns < 2 * kLongestNs;
    back_off.pause_ns = again ? std::min(back_off.pause_ns * 2, kLongestNs) : kFirstNs;
    back_off.until_ns =
        now_ns + std::max(back_off.pause_ns, static_cast<uint64_t>(at_least.count()));
    return back_off.until_ns;
  }

  struct DiskBackOff {
    uint64_t until_ns = 0;
    uint64_t pause_ns = 0;
  };

  SubsystemQueues& queues;
  QueuePath path;
  bool paused = false;
  std::vector<DiskBackOff> back_offs;  // indexed like path.disks
  std::unique_ptr<initiator::ReactorQueuePair> queue;
  uint32_t aborts = 0;     // Abort commands for commands of `queue` that have not ended
  bool borrowing = false;  // uses path.lender's queue pair
  bool lender_ready = false;
};

}  // namespace sma::storage_target::bdev_nvme
