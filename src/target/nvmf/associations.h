#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "target/nvmf/connect.h"
#include "target/nvmf/controller.h"

namespace sma::target {
class Reactor;
}

namespace sma::target::nvmf {

class QueuePair;

/// The controllers of one subsystem with their queue pairs, as the control reactor knows them: an
/// association is a controller and its host (NVMe Base 2.0 §1.5). The control reactor only.
class Associations {
 public:
  struct Association {
    std::shared_ptr<Controller> controller;
    std::map<uint16_t, QueuePair*> queue_pairs;  // by queue id; 0 is the admin queue
    Reactor* admin_reactor = nullptr;
    bool ending = false;
    std::set<const QueuePair*> closed;  // those of queue_pairs that have ended, with I/O left
    std::vector<std::function<void()>> when_io_queues_gone;
    std::vector<std::function<void()>> when_gone;
  };

  explicit Associations(std::shared_ptr<const SubsystemOptions> subsystem)
      : subsystem_(std::move(subsystem)), next_cntlid_(subsystem_->min_cntlid) {}

  /// Connects an admin queue: makes a controller.
  ConnectResult AddController(QueuePair& queue_pair, const ConnectRequest& request);
  /// Connects an I/O queue to its controller.
  ConnectResult AddIoQueue(QueuePair& queue_pair, const ConnectRequest& request);
  /// The queue pair is gone. The loss of the admin queue ends the association.
  void Remove(QueuePair& queue_pair, const Controller& controller);

  /// The connection of a queue pair has ended, and I/O of it is outstanding. The loss of the admin
  /// queue ends the association.
  void NoteClosed(QueuePair& queue_pair, const Controller& controller);
  /// `task` runs whenever a queue pair is gone.
  void set_on_removed(std::function<void()> task) { on_removed_ = std::move(task); }

  /// Disconnects all queue pairs of the associations that `which` holds of; `done` runs when they
  /// are gone.
  void End(const std::function<bool(const Association&)>& which, std::function<void()> done);
  /// Disconnects the I/O queues of one controller; `done` runs when they are gone.
  void EndIoQueues(const Controller& controller, std::function<void()> done);

  /// Runs `task` for each controller in the reactor of its admin queue.
  void Notify(const std::function<void(Controller&)>& task);

  /// Has all queue pairs take what their hosts have sent so far; then `done` runs in `control`.
  void CatchUp(Reactor& control, std::function<void()> done);

  /// nullptr: there is none.
  QueuePair* FindQueuePair(const Controller& controller, uint16_t queue_id);

  /// By CNTLID.
  const std::map<uint16_t, Association>& all() const { return associations_; }

 private:
  uint16_t ChooseCntlid();  // 0: none is free
  Association* Find(const Controller& controller);
  void EndOne(Association& association);

  const std::shared_ptr<const SubsystemOptions> subsystem_;
  std::map<uint16_t, Association> associations_;
  uint16_t next_cntlid_;
  std::function<void()> on_removed_ = [] {};
};

}  // namespace sma::target::nvmf
