#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "target/bdev_modules/nvme/bdev_io.h"
#include "target/bdev_modules/nvme/initiator/reactor_queue_pair.h"
#include "target/bdev_modules/nvme/options.h"
#include "target/reactor/reactor.h"

namespace sma::target::bdev_nvme {

/// A path as the I/O reactors see it: how to connect a queue pair to its controller.
struct QueuePath {
  uint64_t path_id = 0;  // of the RemoteSubsystem
  uint64_t epoch = 0;    // counts the times that the path came up
  initiator::QueuePair::Options options;
  initiator::ReactorQueuePair::Timeouts timeouts;
  IoLimits limits;
};

/// The queue pairs of one remote subsystem in one reactor, one for each path, and the I/O that
/// waits for a path. They are connected while a channel uses them. Used in the reactor's thread.
class SubsystemQueues : public std::enable_shared_from_this<SubsystemQueues> {
 public:
  /// Called in the reactor's thread when the queue pair of a path was lost or could not be
  /// connected.
  using OnLost = std::function<void(uint64_t path_id, uint64_t epoch, const std::string& reason)>;

  /// From any thread; destroyed in the reactor's when the last reference is gone.
  static std::shared_ptr<SubsystemQueues> Make(Reactor& reactor, OnLost on_lost);
  SubsystemQueues(const SubsystemQueues&) = delete;
  SubsystemQueues& operator=(const SubsystemQueues&) = delete;

  // What the control reactor says, by messages.

  /// The path's controller is ready, again after a loss.
  void PathUp(const QueuePath& path);
  /// The path's controller is lost or leaves.
  void PathDown(uint64_t path_id);
  /// Whether I/O fails while no path is there, instead of waiting.
  void SetFailing(bool failing);
  void SetPolicy(const ModuleOptions& options);

  // What channels say.

  void AddUser();
  void RemoveUser();
  /// Sends the next command of `io`, now or when a path is there. Ends in NvmeChannel::Finish.
  void Submit(NvmeIo& io);
  /// Ends the I/O of `channel` that waits here with kAborted.
  void AbortWaiting(const NvmeChannel& channel);

  Reactor& reactor() const { return reactor_; }

 private:
  struct PathQueue;

  SubsystemQueues(Reactor& reactor, OnLost on_lost);
  ~SubsystemQueues();
  PathQueue* Choose();
  void Connect(PathQueue& path);
  void DrainWaiting();
  void OnQueueReady();
  void OnQueueClosed(PathQueue& path);
  static void OnCommandDone(initiator::Request& request, const nvme::Completion& completion);
  void Finish(NvmeIo& io, const nvme::Completion& completion);
  void RetryLater(NvmeIo& io);

  Reactor& reactor_;
  const OnLost on_lost_;
  std::vector<std::unique_ptr<PathQueue>> paths_;  // in the order of preference
  size_t turn_ = 0;
  int32_t retry_count_ = ModuleOptions{}.bdev_retry_count;
  MultipathPolicy policy_ = MultipathPolicy::kActivePassive;
  bool failing_ = false;
  uint32_t users_ = 0;
  initiator::RequestList waiting_;  // for a path
  initiator::RequestList delayed_;  // for the timer
  Reactor::TimerId retry_timer_ = 0;
};

}  // namespace sma::target::bdev_nvme
