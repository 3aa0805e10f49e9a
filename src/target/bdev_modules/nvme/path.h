#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "target/bdev_modules/nvme/initiator/controller.h"
#include "target/bdev_modules/nvme/initiator/namespace_scan.h"
#include "target/bdev_modules/nvme/options.h"
#include "target/reactor/reactor.h"

namespace sma::target::bdev_nvme {

/// One path to a remote subsystem: a controller that is connected, and connected again when it is
/// lost. With more than one address it uses them in turn (failover). In the control reactor.
class Path : private initiator::Controller::Owner {
 public:
  enum class State : uint8_t {
    kConnecting,  // for the first time
    kEnabled,
    kReconnecting,  // an attempt is under way
    kWaiting,       // until the next attempt
    kFailed,        // no more attempts
    kLeaving,       // after Shutdown
  };

  /// Its owner must not destroy it in these, except in OnPathLost.
  class Owner {
   public:
    virtual ~Owner() = default;
    /// The first attempt failed; it does nothing any more.
    virtual void OnPathRefused(Path& path, const std::string& reason) = 0;
    /// The controller is ready and its namespaces are known; for the first time or again.
    virtual void OnPathUp(Path& path) = 0;
    virtual void OnPathDown(Path& path) = 0;
    /// While it is up: its namespaces have changed, and which is not known yet. No I/O is to be
    /// sent on this path any more; then, from the control reactor, `proceed`, once. I/O may go on
    /// after OnNamespacesChanged.
    virtual void OnNamespacesSuspect(Path& path, std::function<void()> proceed) = 0;
    /// While it is up: namespaces() has been read again.
    virtual void OnNamespacesChanged(Path& path) = 0;
    /// While it is up: AnaStateOf says something else.
    virtual void OnAnaChanged(Path& path) = 0;
    /// fast_io_fail_timeout_sec has passed, or there will be no more attempts.
    virtual void OnPathHopeless(Path& path) = 0;
    /// ctrlr_loss_timeout_sec has passed.
    virtual void OnPathLost(Path& path) = 0;
  };

  struct Options {
    uint64_t id = 0;
    initiator::Controller::Options controller;
    std::vector<initiator::Address> alternatives;  // to the address in `controller`
    ReconnectOptions reconnect;
  };

  Path(Reactor& reactor, const Options& options, Owner& owner);
  ~Path() override;

  void Start();
  /// Gives the connection up and makes it again at once. `done` gets 0 or EIO after the first
  /// attempt, or ENXIO before the return when it is leaving.
  void Reset(std::function<void(int error)> done);
  /// An I/O queue that was connected in `epoch` is lost: so is the controller, unless it is another
  /// by now.
  void OnQueueLost(uint64_t epoch, const std::string& reason);
  /// For the owner that does not want what the controller has shown: the connection is lost, and
  /// made again after the usual pause.
  void Refuse(const std::string& reason);
  /// Tells the controller that this host leaves, and closes. The owner is not called any more; it
  /// may destroy the path in `done`. Once.
  void Shutdown(std::function<void()> done);

  /// While it is up. Sends an Abort command for a command of an I/O queue; `done` when that has
  /// been answered, not at all when the connection is lost first or `epoch` is over.
  void Abort(uint64_t epoch, uint16_t queue_id, uint16_t cid, std::function<void()> done);
  /// Reads the ANA log page again, if there is one.
  void RefreshAna();
  /// The state of the group of a namespace of namespaces(); optimized when the controller does not
  /// report one.
  nvme::AnaState AnaStateOf(const initiator::NamespaceInfo& info) const;

  void AddAlternative(const initiator::Address& address);
  /// Uses the address no more; false when it is the only one, or none of this path's.
  bool RemoveAlternative(const initiator::Address& address);
  bool HasAddress(const initiator::Address& address) const;

  uint64_t id() const { return options_.id; }
  State state() const { return state_; }
  bool is_up() const { return state_ == State::kEnabled; }
  /// Counts the times that it came up.
  uint64_t epoch() const { return epoch_; }
  /// Of the address in use.
  const initiator::Association& association() const { return options_.controller.association; }
  const Options& options() const { return options_; }
  /// What the controller said when it was up last.
  const initiator::ControllerInfo& info() const { return info_; }
  const std::vector<initiator::NamespaceInfo>& namespaces() const { return namespaces_; }
  /// While it is up.
  const initiator::Controller& controller() const { return *controller_; }

 private:
  void OnControllerReady(initiator::Controller& controller) override;
  void OnControllerClosed(initiator::Controller& controller, const std::string& reason) override;
  void OnNamespaceEvent(initiator::Controller& controller,
                        const std::function<void()>& proceed) override;
  void OnNamespacesChanged(initiator::Controller& controller) override;
  void OnAnaChanged(initiator::Controller& controller, const initiator::AnaGroups& groups) override;

  void Connect();
  void DropController();
  void Scan();
  void OnScanned(bool complete, std::vector<initiator::NamespaceInfo> namespaces);
  void FinishScan();
  void SetAna(const initiator::AnaGroups& groups);
  void GoDown(const std::string& reason);
  void AttemptFailed(const std::string& reason);
  void ScheduleAttempt();
  void StartLossTimers();
  void StopTimers();
  void FinishReset(int error);
  void UseNextAddress();

  Reactor& reactor_;
  Options options_;
  Owner& owner_;
  State state_ = State::kConnecting;
  uint64_t epoch_ = 0;
  uint64_t up_since_ns_ = 0;
  std::unique_ptr<initiator::Controller> controller_;
  std::unique_ptr<initiator::NamespaceScan> scan_;
  bool scan_again_ = false;
  bool event_open_ = false;  // an event about namespaces whose log page has not been read
  initiator::ControllerInfo info_;
  std::vector<initiator::NamespaceInfo> namespaces_;
  initiator::AnaGroups ana_;
  bool ana_refresh_open_ = false;
  BackOff back_off_;
  Reactor::TimerId ana_timer_ = 0;  // while a group is in the change state
  Reactor::TimerId attempt_timer_ = 0;
  Reactor::TimerId fail_timer_ = 0;
  Reactor::TimerId loss_timer_ = 0;
  std::vector<std::function<void(int error)>> on_reset_;
};

/// SPDK's word for the state of a controller.
const char* StateName(Path::State state);

}  // namespace sma::target::bdev_nvme
