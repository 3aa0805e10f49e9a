#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>

#include "target/nvmf/connect.h"
#include "target/nvmf/discovery_log.h"

namespace sma::target {
class Reactor;
}

namespace sma::target::nvmf {

class Controller;
class QueuePair;

/// The queue pairs of one reactor, for nvmf_get_stats. Written by the control reactor, but for the
/// atomic members, which the reactor itself writes.
struct PollGroup {
  Reactor* reactor = nullptr;
  uint64_t admin_queue_pairs = 0;  // connected since the start
  uint64_t io_queue_pairs = 0;
  uint64_t current_admin_queue_pairs = 0;
  uint64_t current_io_queue_pairs = 0;
  /// Completed commands of I/O queues.
  alignas(64) std::atomic<uint64_t> completed_commands{0};
  /// Queue pairs that are not connected to a controller.
  std::atomic<uint64_t> unassociated_queue_pairs{0};
};

/// Sums for the SMART log page of a controller's subsystem.
struct Health {
  uint64_t reads = 0;
  uint64_t writes = 0;
  uint64_t bytes_read = 0;
  uint64_t bytes_written = 0;
  uint64_t uptime_s = 0;
};

/// What queue pairs, controllers and commands need from the tables of the control reactor.
/// Implemented by Target. Called in the control reactor only, unless noted otherwise; no I/O
/// command uses it.
class ControlPlane {
 public:
  virtual ~ControlPlane() = default;

  /// The control reactor. Any thread.
  virtual Reactor& control() const = 0;
  /// The counters of `reactor`, one of the I/O reactors. Any thread.
  virtual PollGroup& PollGroupOf(const Reactor& reactor) const = 0;

  /// Decides on a Connect command (NVMe-oF 1.1 §3.3); `done` gets the result, perhaps later. On
  /// success `queue_pair` belongs to the controller in the result until ForgetQueuePair. The admin
  /// queue of a host whose earlier association with the subsystem has ended is connected when the
  /// last I/O of that one has ended, so that no late write lands over newer data.
  virtual void Connect(QueuePair& queue_pair, const ConnectRequest& request, ConnectDone done) = 0;
  /// The connection of `queue_pair`, a queue of `controller`, has ended while commands are
  /// outstanding.
  virtual void NoteClosed(QueuePair& queue_pair, const Controller& controller) = 0;
  /// `queue_pair` has no command outstanding and will be destroyed. `controller` is null if it was
  /// not connected.
  virtual void ForgetQueuePair(QueuePair& queue_pair,
                               const std::shared_ptr<Controller>& controller) = 0;
  /// Aborts command `cid` of another queue of `controller`. `done` runs in any reactor with whether
  /// the command has been aborted.
  virtual void AbortCommand(const Controller& controller, uint16_t queue_id, uint16_t cid,
                            std::function<void(bool)> done) = 0;
  virtual Health HealthOf(const Controller& controller) const = 0;
  /// The discovery log page for the host of `queue_pair`. Returns `present` (may be null), which
  /// the host has read before, while that is still valid.
  virtual std::shared_ptr<const DiscoveryLog> MakeDiscoveryLog(
      const QueuePair& queue_pair, const std::shared_ptr<const DiscoveryLog>& present) const = 0;
  /// Disconnects the I/O queues of `controller`; `done` runs in `reactor` when they are gone. Any
  /// thread.
  virtual void DisconnectIoQueues(std::shared_ptr<Controller> controller, Reactor& reactor,
                                  std::function<void()> done) = 0;
};

}  // namespace sma::target::nvmf
