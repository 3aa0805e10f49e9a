// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/uuid.h"
#include "storage_target/nvmf/connect.h"
#include "storage_target/nvmf/controller.h"

namespace sma::storage_target {
class Reactor;
}

namespace sma::storage_target::nvmf {

class QueuePair;

/// The controllers of one subsystem and their queue pairs, as seen by the control reactor. An
/// association is a controller and its host (NVMe Base 2.0 §1.5). Used only on the control reactor.
class Associations {
 public:
  struct Association {
    std::shared_ptr<Controller> controller;
    std::map<uint16_t, QueuePair*> queue_pairs;  // by queue ID; 0 is the admin queue
    Reactor* admin_reactor = nullptr;
    bool ending = false;
    std::set<const QueuePair*> closed;  // queue pairs that have ended with I/O outstanding
    std::vector<std::function<void()>> when_io_queues_gone;
    std::vector<std::function<void()>> when_gone;

    /// Returns true if I/O of a connection that has ended may be outstanding.
    bool has_late_io() const { return ending || !closed.empty(); }
  };
  /// A host NQN and host identifier.
  using Host = std::pair<std::string, base::Uuid>;
  /// The associations of one host.
  struct HostAssociations {
    std::set<Association*> all;
    size_t with_late_io = 0;  // number of those for which has_late_io is true
    std::shared_ptr<Controller::HostConnections> connections =
        std::make_shared<Controller::HostConnections>();
  };

  explicit Associations(std::shared_ptr<const SubsystemOptions> subsystem)
      : subsystem_(std::move(subsystem)), next_cntlid_(subsystem_->min_cntlid) {}

  /// Connects an admin queue, which creates a controller.
  ConnectResult AddController(QueuePair& queue_pair, const ConnectRequest& request);
  /// Connects an I/O queue to its controller.
  ConnectResult AddIoQueue(QueuePair& queue_pair, const ConnectRequest& request);
  /// Removes a queue pair that is being destroyed. Losing the admin queue ends the association.
  void Remove(QueuePair& queue_pair, const Controller& controller);

  /// Records that the connection of a queue pair has ended while I/O is outstanding. Losing the
  /// admin queue ends the association.
  void NoteClosed(QueuePair& queue_pair, const Controller& controller);
  /// Sets a task that runs whenever the last late I/O of a host has ended: see FindHost.
  void set_on_no_late_io(std::function<void(const Host&)> task) {
    on_no_late_io_ = std::move(task);
  }

  /// Disconnects all queue pairs of the associations for which `which` returns true; calls `done`
  /// when they are removed.
  void End(const std::function<bool(const Association&)>& which, std::function<void()> done);
  /// Disconnects the I/O queues of a controller; calls `done` when they are removed.
  void EndIoQueues(const Controller& controller, std::function<void()> done);

  /// Runs `task` for each controller, on the reactor of its admin queue.
  void Notify(const std::function<void(Controller&)>& task);

  /// Makes all queue pairs process everything that their hosts have sent so far, then calls `done`
  /// in `control`.
  void ProcessReceived(Reactor& control, std::function<void()> done);

  /// Returns a queue pair of a controller; nullptr if there is none.
  QueuePair* FindQueuePair(const Controller& controller, uint16_t queue_id);

  /// Returns nullptr if the host has no association.
  const HostAssociations* FindHost(const Host& host) const;
  /// All associations by CNTLID.
  const std::map<uint16_t, Association>& all() const { return associations_; }

 private:
  uint16_t ChooseCntlid();  // returns 0 if none is free
  Association* Find(const Controller& controller);
  void EndAssociation(Association& association);
  static Host HostOf(const Controller& controller);
  bool HasLateIo(const Host& host) const;
  /// Counts a change of has_late_io, which was `before`.
  void CountLateIo(const Association& association, bool before);
  void Erase(Association& association);

  const std::shared_ptr<const SubsystemOptions> subsystem_;
  std::map<uint16_t, Association> associations_;
  std::map<Host, HostAssociations> hosts_;
  uint16_t next_cntlid_;
  std::function<void(const Host&)> on_no_late_io_ = [](const Host&) {};
};

}  // namespace sma::storage_target::nvmf
