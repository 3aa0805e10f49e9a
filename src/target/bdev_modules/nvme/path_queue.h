#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "target/bdev_modules/nvme/subsystem_queues.h"

namespace sma::target::bdev_nvme {

/// A path in one reactor, and its queue pair, if it has one of its own; none while nobody uses it.
struct SubsystemQueues::PathQueue : initiator::ReactorQueuePair::Owner {
  /// Whether an I/O may be sent.
  enum class Access : uint8_t { kNo, kNonOptimized, kOptimized };

  PathQueue(SubsystemQueues& parent, const QueuePath& queue_path)
      : queues(parent), path(queue_path), rests(queue_path.disks.size()) {}

  void OnQueueReady(initiator::ReactorQueuePair& /*queue*/) override { queues.OnQueueReady(*this); }
  void OnQueueClosed(initiator::ReactorQueuePair& /*queue*/) override {
    queues.OnQueueClosed(*this);
  }

  uint32_t key() const { return static_cast<uint32_t>(path.path_id); }
  bool ready() const { return path.lender ? lender_ready : queue && queue->ready(); }
  /// The path shows the disk, whatever its ANA state.
  bool Shows(const DiskKey& disk) const {
    return !paused && disk.slot < path.disks.size() && path.disks[disk.slot].serial == disk.serial;
  }
  Access AccessTo(const DiskKey& disk, uint64_t now_ns) const {
    if (!ready() || !Shows(disk) || rests[disk.slot].until_ns > now_ns) return Access::kNo;
    switch (path.disks[disk.slot].state) {
      case nvme::AnaState::kOptimized:
        return Access::kOptimized;
      case nvme::AnaState::kNonOptimized:
        return Access::kNonOptimized;
      default:
        return Access::kNo;
    }
  }
  /// A path error: no I/O to the disk goes this way for a while, longer each time that it happens
  /// soon again. Until when, in the reactor's time.
  uint64_t Rest(const DiskKey& disk, uint64_t now_ns, std::chrono::nanoseconds at_least) {
    constexpr uint64_t kFirstNs = 50'000'000;
    constexpr uint64_t kLongestNs = 2'000'000'000;
    DiskRest& rest = rests[disk.slot];
    if (rest.until_ns > now_ns) return rest.until_ns;  // of many I/Os sent together
    bool again = rest.until_ns != 0 && now_ns - rest.until_ns < 2 * kLongestNs;
    rest.pause_ns = again ? std::min(rest.pause_ns * 2, kLongestNs) : kFirstNs;
    rest.until_ns = now_ns + std::max(rest.pause_ns, static_cast<uint64_t>(at_least.count()));
    return rest.until_ns;
  }

  struct DiskRest {
    uint64_t until_ns = 0;
    uint64_t pause_ns = 0;
  };

  SubsystemQueues& queues;
  QueuePath path;
  bool paused = false;
  std::vector<DiskRest> rests;  // as path.disks
  std::unique_ptr<initiator::ReactorQueuePair> queue;
  bool borrowing = false;  // from path.lender
  bool lender_ready = false;
};

}  // namespace sma::target::bdev_nvme
