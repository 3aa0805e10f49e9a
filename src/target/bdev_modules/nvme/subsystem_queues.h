#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "target/bdev_modules/nvme/bdev_io.h"
#include "target/bdev_modules/nvme/initiator/reactor_queue_pair.h"
#include "target/bdev_modules/nvme/options.h"
#include "target/bdev_modules/nvme/path_disks.h"
#include "target/reactor/reactor.h"

namespace sma::target::bdev_nvme {

class SubsystemQueues;

/// A path as the I/O reactors see it: how to connect a queue pair to its controller.
struct QueuePath {
  uint64_t path_id = 0;  // of the RemoteSubsystem
  uint64_t epoch = 0;    // counts the times that the path came up
  initiator::QueuePair::Options options;
  initiator::ReactorQueuePair::Timeouts timeouts;
  IoLimits limits;
  RetryDelays retry_delays{};
  PathDisks disks;
  /// Where the controller allows fewer I/O queues than there are reactors: the queues of a reactor
  /// that has one, and lends it. Null: this reactor connects its own.
  std::shared_ptr<SubsystemQueues> lender;
};

/// The queue pairs of one remote subsystem in one reactor, one for each path, and the I/O that
/// waits for a path. They are connected while a channel uses them. Used in the reactor's thread.
///
/// An I/O goes to a path only if that path has shown the I/O's disk (PathDisks), and if its ANA
/// state allows it; optimized paths come first.
class SubsystemQueues : public std::enable_shared_from_this<SubsystemQueues> {
 public:
  /// Events for the control plane. Called in the reactor's thread.
  struct Events {
    /// The queue pair of a path was lost or could not be connected.
    std::function<void(uint64_t path_id, uint64_t epoch, const std::string& reason)> on_lost;
    /// An Abort command is to be sent for the command `cid` of the path's I/O queue `queue_id`;
    /// then EndAbort, here.
    std::function<void(uint64_t path_id, uint64_t epoch, uint16_t queue_id, uint16_t cid)> on_abort;
    /// The path answered with an ANA status: its ANA log page has changed.
    std::function<void(uint64_t path_id)> on_ana_status;
  };

  /// From any thread; destroyed in the reactor's when the last reference is gone.
  static std::shared_ptr<SubsystemQueues> Make(Reactor& reactor, Events events);
  SubsystemQueues(const SubsystemQueues&) = delete;
  SubsystemQueues& operator=(const SubsystemQueues&) = delete;

  // Called by messages from the control reactor.

  /// The path's controller is ready, again after a loss.
  void PathUp(const QueuePath& path);
  /// The path's controller is lost or leaves.
  void PathDown(uint64_t path_id);
  /// No I/O is sent on the path until SetDisks. `drained` is released when none is under way any
  /// more, or after 5 seconds.
  void PausePath(uint64_t path_id, std::shared_ptr<void> drained);
  /// Nothing for a path that is not up, or in another epoch.
  void SetDisks(uint64_t path_id, uint64_t epoch, const PathDisks& disks);
  /// The disk is gone: what waits for a path to it ends with kGone.
  void DiskGone(const DiskKey& disk);
  /// Whether no path to the disk may become usable: I/O fails instead of waiting.
  void SetDiskFailing(const DiskKey& disk, bool failing);
  /// The same for all disks.
  void SetFailing(bool failing);
  void SetPolicy(const ModuleOptions& options);
  void EndAbort(uint64_t path_id, uint64_t epoch, uint16_t cid);

  // Called by channels.

  void AddUser();
  void RemoveUser();
  /// Sends the next command of `io`, now or when a path is there. Ends in NvmeChannel::Finish.
  void Submit(NvmeIo& io);
  /// Channel::DoAbort for `io`.
  bool Abort(NvmeIo& io);
  /// Ends the I/O of `channel` that waits here with kAborted.
  void AbortWaiting(const NvmeChannel& channel);

  Reactor& reactor() const { return reactor_; }

 private:
  struct PathQueue;
  // Queues of another reactor that borrow the queue pair of a path here.
  struct Borrower {
    uint64_t path_id;
    uint64_t epoch;
    std::weak_ptr<SubsystemQueues> queues;
  };
  struct DiskState {
    uint32_t gone_serial = 0;  // disks up to this serial number are gone
    uint32_t failing_serial = 0;
  };

  SubsystemQueues(Reactor& reactor, Events events);
  ~SubsystemQueues();

  // subsystem_queues.cc
  PathQueue* Find(uint64_t path_id) const;
  void Connect(PathQueue& path);
  void AwaitDrained(uint64_t path_id, uint64_t deadline_ns, std::shared_ptr<void> drained);
  void OnQueueReady(PathQueue& path);
  void OnQueueClosed(PathQueue& path);
  DiskState& StateOf(const DiskKey& disk);
  void EndDisk(initiator::RequestList& list, const DiskKey& disk, bdev::IoStatus status);

  // queue_lending.cc
  void Borrow(PathQueue& path);
  void GiveBack(PathQueue& path);
  void AddBorrower(const Borrower& borrower);
  void RemoveBorrower(uint64_t path_id, const SubsystemQueues* queues);
  void TellBorrowers(const PathQueue& path);
  void OnLenderReady(uint64_t path_id, uint64_t epoch);
  void SendLent(PathQueue& path, NvmeIo& io);
  void ExecuteLent(uint64_t path_id, uint64_t epoch, NvmeIo& io);
  static void OnLentDone(initiator::Request& request, const nvme::Completion& completion);
  void AbortLent(PathQueue& path, NvmeIo& io);

  // subsystem_io.cc
  PathQueue* Choose(const DiskKey& disk);
  void Wait(NvmeIo& io);
  void SubmitWaiting();
  static void OnCommandDone(initiator::Request& request, const nvme::Completion& completion);
  void Complete(NvmeIo& io, const nvme::Completion& completion);
  void OnPathError(NvmeIo& io, const nvme::Completion& completion);
  void RetryLater(NvmeIo& io, std::chrono::milliseconds pause);
  void WakeAt(uint64_t due_ns);
  void OnTimer();
  bool AbortSent(PathQueue& path, NvmeIo& io);

  Reactor& reactor_;
  const Events events_;
  std::vector<std::unique_ptr<PathQueue>> paths_;  // in the order of preference
  std::vector<Borrower> borrowers_;
  std::vector<DiskState> disk_states_;  // by DiskKey::slot
  size_t turn_ = 0;
  int32_t retry_count_ = ModuleOptions{}.bdev_retry_count;
  MultipathPolicy policy_ = MultipathPolicy::kActivePassive;
  bool failing_ = false;
  uint32_t users_ = 0;
  initiator::RequestList waiting_;  // for a path
  initiator::RequestList delayed_;  // until their time
  Reactor::TimerId timer_ = 0;
  uint64_t timer_due_ns_ = 0;
};

}  // namespace sma::target::bdev_nvme
