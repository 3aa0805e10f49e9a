// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "storage_target/bdev/io_queue.h"
#include "storage_target/bdev_modules/nvme/bdev_io.h"
#include "storage_target/bdev_modules/nvme/initiator/reactor_queue_pair.h"
#include "storage_target/bdev_modules/nvme/options.h"
#include "storage_target/bdev_modules/nvme/path_disks.h"
#include "storage_target/reactor/reactor.h"

namespace sma::storage_target::bdev_nvme {

class SubsystemQueues;

/// A path as seen by the I/O reactors: the parameters for connecting a queue pair to its
/// controller.
struct QueuePath {
  uint64_t path_id = 0;  // as in the RemoteSubsystem
  uint64_t epoch = 0;    // incremented each time the path comes up
  initiator::QueuePair::Options options;
  initiator::ReactorQueuePair::Timeouts timeouts;
  IoLimits limits;
  RetryDelays retry_delays{};
  std::chrono::milliseconds quiesce_time{0};  // see initiator::Controller::quiesce_time
  PathDisks disks;
  /// If the controller allows fewer I/O queues than there are reactors, these are the queues of
  /// another reactor, which lends its queue pair. Null if this reactor connects its own queue pair.
  std::shared_ptr<SubsystemQueues> lender;
};

/// The queue pairs of one remote subsystem in one reactor, one for each path, and the I/O that
/// waits for a path. They are connected while a channel uses them. Used on the reactor's thread.
///
/// An I/O is sent on a path only if that path has reported the I/O's disk (PathDisks), and if its
/// ANA state allows I/O; optimized paths are preferred.
///
/// When a path is lost, reads continue on another path at once. An I/O that changes data and was
/// sent on the lost path continues, or fails, when the remote can no longer execute it: when the
/// remote has closed the connection, or the quiesce time after the end of the association has
/// passed. Its queue pair holds it until then. If the disk is removed, it fails at once.
class SubsystemQueues : public std::enable_shared_from_this<SubsystemQueues> {
 public:
  /// Events for the control plane. Called on the reactor's thread.
  struct Events {
    /// Called when the queue pair of a path was lost or could not be connected.
    std::function<void(uint64_t path_id, uint64_t epoch, const std::string& reason)> on_lost;
    /// Requests an Abort command for the command `cid` of the path's I/O queue `queue_id`; EndAbort
    /// is called here afterwards.
    std::function<void(uint64_t path_id, uint64_t epoch, uint16_t queue_id, uint16_t cid)> on_abort;
    /// Called when the path has completed a command with an ANA status, which means that its ANA
    /// log page has changed.
    std::function<void(uint64_t path_id)> on_ana_status;
  };

  /// May be called on any thread. The object is destroyed on the reactor's thread after the last
  /// reference is released.
  static std::shared_ptr<SubsystemQueues> Make(Reactor& reactor, Events events);
  SubsystemQueues(const SubsystemQueues&) = delete;
  SubsystemQueues& operator=(const SubsystemQueues&) = delete;

  // The following functions are called by messages from the control reactor.

  /// Called after each connect, when the path's controller is ready.
  void PathUp(const QueuePath& path);
  /// Called when the path's controller is disconnected or being shut down.
  void PathDown(uint64_t path_id);
  /// Called when the path's controller has sent its last command of `epoch`, on all queues.
  void AssociationEnded(uint64_t path_id, uint64_t epoch);
  /// Sends no I/O on the path until SetDisks is called. `drained` is released when no I/O is
  /// outstanding on it, or after 5 seconds.
  void PausePath(uint64_t path_id, std::shared_ptr<void> drained);
  /// Sets the disks that a path reports. Ignored for a path that is not up or is in another epoch.
  void SetDisks(uint64_t path_id, uint64_t epoch, const PathDisks& disks);
  /// Called when the disk has been removed: I/O that waits for a path to it ends with kGone.
  void DiskGone(const DiskKey& disk);
  /// If `failing` is set, no path to the disk will become usable, so I/O fails instead of waiting.
  void SetDiskFailing(const DiskKey& disk, bool failing);
  /// Like SetDiskFailing, for all disks.
  void SetFailing(bool failing);
  void SetPolicy(const ModuleOptions& options);
  void EndAbort(uint64_t path_id, uint64_t epoch, uint16_t cid);

  // The following functions are called by channels.

  void AddUser();
  void RemoveUser();
  /// Sends the next command of `io`, immediately or when a path is usable. Processing ends with
  /// NvmeChannel::Finish.
  void Submit(NvmeIo& io);
  /// Implements Channel::DoAbort for `io`.
  bool Abort(NvmeIo& io);
  /// Ends the waiting I/O of `channel` with kAborted.
  void AbortWaiting(const NvmeChannel& channel);

  Reactor& reactor() const { return reactor_; }

 private:
  struct PathQueue;
  // The queues of another reactor that borrow the queue pair of a path here.
  struct Borrower {
    uint64_t path_id;
    uint64_t epoch;
    std::weak_ptr<SubsystemQueues> queues;
  };
  struct DiskState {
    uint32_t gone_serial = 0;  // disks up to this serial number are removed
    uint32_t failing_serial = 0;
  };

  SubsystemQueues(Reactor& reactor, Events events);
  ~SubsystemQueues();

  // Defined in subsystem_queues.cc.
  PathQueue* Find(uint64_t path_id) const;
  void Connect(PathQueue& path);
  void RequestAbort(PathQueue& path, uint16_t cid);
  void CloseUnused(PathQueue& path);
  void Retire(std::unique_ptr<PathQueue> path);
  void FailHeldOfRemovedDisks(PathQueue& path);
  void OnHeldEnded(PathQueue& path);
  void AwaitDrained(uint64_t path_id, uint64_t deadline_ns, std::shared_ptr<void> drained);
  void OnQueueReady(PathQueue& path);
  void OnQueueClosed(PathQueue& path);
  DiskState& StateOf(const DiskKey& disk);
  /// Ends the I/Os of `queue` for which `which` returns true.
  static void End(bdev::IoQueue& queue, const std::function<bool(const bdev::Io&)>& which,
                  bdev::IoStatus status);

  // Defined in queue_lending.cc.
  void Borrow(PathQueue& path);
  void ReturnToLender(PathQueue& path);
  void AddBorrower(const Borrower& borrower);
  void RemoveBorrower(uint64_t path_id, const SubsystemQueues* queues);
  void TellBorrowers(const PathQueue& path);
  void OnLenderReady(uint64_t path_id, uint64_t epoch);
  void SendLent(PathQueue& path, NvmeIo& io);
  void ExecuteLent(uint64_t path_id, uint64_t epoch, NvmeIo& io);
  static void OnLentDone(initiator::Request& request, const nvme::Completion& completion);
  void EndLent(NvmeIo& io, const nvme::Completion& completion);
  void AbortLent(PathQueue& path, NvmeIo& io);
  void AbortBorrowed(uint64_t path_id, NvmeIo& io);
  void EndAbortLent(NvmeIo& io);

  // Defined in subsystem_io.cc.
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
  std::vector<std::unique_ptr<PathQueue>> paths_;    // in the order of preference
  std::vector<std::unique_ptr<PathQueue>> retired_;  // closed, with held I/O
  std::vector<Borrower> borrowers_;
  std::vector<DiskState> disk_states_;  // by DiskKey::slot
  size_t turn_ = 0;
  int32_t retry_count_ = ModuleOptions{}.bdev_retry_count;
  MultipathPolicy policy_ = MultipathPolicy::kActivePassive;
  bool failing_ = false;
  uint32_t users_ = 0;
  bdev::IoQueue waiting_;  // I/Os that wait for a path
  bdev::IoQueue delayed_;  // I/Os that wait until due_ms
  Reactor::TimerId timer_ = 0;
  uint64_t timer_due_ns_ = 0;
};

}  // namespace sma::storage_target::bdev_nvme
