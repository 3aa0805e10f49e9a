// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>

#include "storage_target/nvmf/connect.h"
#include "storage_target/nvmf/discovery_log.h"

namespace sma::storage_target {
class Reactor;
}

namespace sma::storage_target::nvmf {

class Controller;
class QueuePair;

/// The queue pairs of one reactor, for nvmf_get_stats. Written by the control reactor, except for
/// the atomic members, which the I/O reactor writes.
struct PollGroup {
  Reactor* reactor = nullptr;
  uint64_t admin_queue_pairs = 0;  // total since the start
  uint64_t io_queue_pairs = 0;
  uint64_t current_admin_queue_pairs = 0;
  uint64_t current_io_queue_pairs = 0;
  /// Number of completed commands of I/O queues.
  alignas(64) std::atomic<uint64_t> completed_commands{0};
  /// Number of queue pairs that are not connected to a controller.
  std::atomic<uint64_t> unassociated_queue_pairs{0};
};

/// Totals for the SMART log page of a controller's subsystem.
struct Health {
  uint64_t reads = 0;
  uint64_t writes = 0;
  uint64_t bytes_read = 0;
  uint64_t bytes_written = 0;
  uint64_t uptime_s = 0;
};

/// The interface through which queue pairs, controllers and commands access the tables of the
/// control reactor. Implemented by Target. Used only on the control reactor unless noted otherwise.
/// Not used by I/O commands.
class ControlPlane {
 public:
  virtual ~ControlPlane() = default;

  /// Returns the control reactor. May be called from any thread.
  virtual Reactor& control() const = 0;
  /// Returns the counters of `reactor`, which must be one of the I/O reactors. May be called from
  /// any thread.
  virtual PollGroup& PollGroupOf(const Reactor& reactor) const = 0;

  /// Handles a Connect command (NVMe-oF 1.1 §3.3) and calls `done` with the result, possibly later.
  /// On success `queue_pair` belongs to the controller in the result until RemoveQueuePair. If an
  /// earlier association of the host with the subsystem has ended, the admin queue is connected
  /// only after the last I/O of that association has ended, so that no late write overwrites newer
  /// data.
  virtual void Connect(QueuePair& queue_pair, const ConnectRequest& request, ConnectDone done) = 0;
  /// Calls queue_pair.EndHold in its reactor when no ended association of the host of `controller`
  /// with the subsystem has I/O outstanding, or when that exceeds `timeout`. Not called if the
  /// queue pair has been removed. `queue_pair` is queue `queue_id` of `controller`.
  virtual void AwaitLateIo(QueuePair& queue_pair, const std::shared_ptr<Controller>& controller,
                           uint16_t queue_id, std::chrono::milliseconds timeout) = 0;
  /// Records that the connection of `queue_pair`, a queue of `controller`, has ended while commands
  /// are outstanding.
  virtual void NoteClosed(QueuePair& queue_pair, const Controller& controller) = 0;
  /// Removes `queue_pair`, which has no commands outstanding and will be destroyed. `controller` is
  /// null if it was not connected.
  virtual void RemoveQueuePair(QueuePair& queue_pair,
                               const std::shared_ptr<Controller>& controller) = 0;
  /// Aborts command `cid` of another queue of `controller`. Calls `done` on any reactor; the
  /// argument is true if the command was aborted.
  virtual void AbortCommand(const Controller& controller, uint16_t queue_id, uint16_t cid,
                            std::function<void(bool)> done) = 0;
  virtual Health HealthOf(const Controller& controller) const = 0;
  /// Returns the discovery log page for the host of `queue_pair`. Returns `present` (may be null),
  /// which the host has read before, if it is still valid.
  virtual std::shared_ptr<const DiscoveryLog> MakeDiscoveryLog(
      const QueuePair& queue_pair, const std::shared_ptr<const DiscoveryLog>& present) const = 0;
  /// Disconnects the I/O queues of `controller`; calls `done` in `reactor` when they are removed.
  /// May be called from any thread.
  virtual void DisconnectIoQueues(std::shared_ptr<Controller> controller, Reactor& reactor,
                                  std::function<void()> done) = 0;
};

}  // namespace sma::storage_target::nvmf
