// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "storage_target/bdev_modules/nvme/initiator/controller.h"
#include "storage_target/bdev_modules/nvme/initiator/namespace_scan.h"
#include "storage_target/bdev_modules/nvme/options.h"
#include "storage_target/reactor/reactor.h"

namespace sma::storage_target::bdev_nvme {

/// One path to a remote subsystem: a controller connection that is re-established when it is lost.
/// If it has several addresses, it uses them in turn (failover). Used only on the control reactor.
class Path : private initiator::Controller::Owner {
 public:
  enum class State : uint8_t {
    kConnecting,  // for the first time
    kEnabled,
    kReconnecting,  // an attempt is under way
    kWaiting,       // waits for the next attempt
    kFailed,        // no more attempts will be made
    kLeaving,       // after Shutdown
  };

  /// Callbacks for the owner of a path. They must not destroy the path, except OnPathLost.
  class Owner {
   public:
    virtual ~Owner() = default;
    /// Called when the first attempt has failed; the path makes no further attempts.
    virtual void OnPathRefused(Path& path, const std::string& reason) = 0;
    /// Called after each connect, when the controller is ready and its namespaces are known.
    virtual void OnPathUp(Path& path) = 0;
    virtual void OnPathDown(Path& path) = 0;
    /// Called while the path is up, when the namespaces have changed in a way that is not known
    /// yet. The owner must stop sending I/O on this path and then call `proceed` once, on the
    /// control reactor. I/O may continue after OnNamespacesChanged.
    virtual void OnNamespacesChanging(Path& path, std::function<void()> proceed) = 0;
    /// Called while the path is up, when namespaces() has been updated.
    virtual void OnNamespacesChanged(Path& path) = 0;
    /// Called while the path is up, when the result of AnaStateOf has changed.
    virtual void OnAnaChanged(Path& path) = 0;
    /// Called when fast_io_fail_timeout_sec has passed or no more attempts will be made.
    virtual void OnPathFailing(Path& path) = 0;
    /// Called when ctrlr_loss_timeout_sec has passed.
    virtual void OnPathLost(Path& path) = 0;
  };

  struct Options {
    uint64_t id = 0;
    initiator::Controller::Options controller;
    std::vector<initiator::Address>
        alternatives;  // further addresses, besides the one in `controller`
    ReconnectOptions reconnect;
  };

  Path(Reactor& reactor, const Options& options, Owner& owner);
  ~Path() override;

  void Start();
  /// Disconnects and reconnects immediately. `done` is called with 0 or EIO after the first
  /// attempt, or with ENXIO before this returns if the path is being shut down.
  void Reset(std::function<void(int error)> done);
  /// Reports the loss of an I/O queue that was connected in `epoch`. Disconnects the controller
  /// unless that epoch has ended.
  void OnQueueLost(uint64_t epoch, const std::string& reason);
  /// Called by the owner to reject the connected controller: disconnects, and reconnects after the
  /// usual pause.
  void Refuse(const std::string& reason);
  /// Shuts the controller down and closes the connection. The owner is no longer called, and may
  /// destroy the path in `done`. Called at most once.
  void Shutdown(std::function<void()> done);

  /// To be called while the path is up. Sends an Abort command for a command of an I/O queue.
  /// `done` is called when the Abort command has completed; it is not called if the connection is
  /// lost first or if `epoch` has ended.
  void Abort(uint64_t epoch, uint16_t queue_id, uint16_t cid, std::function<void()> done);
  /// Reads the ANA log page again, if the controller has one.
  void RefreshAna();
  /// Returns the ANA state of the group of a namespace in namespaces(); optimized if the controller
  /// does not report one.
  nvme::AnaState AnaStateOf(const initiator::NamespaceInfo& info) const;

  void AddAlternative(const initiator::Address& address);
  /// Stops using an address. Returns false if it is the only address or does not belong to this
  /// path.
  bool RemoveAlternative(const initiator::Address& address);
  bool HasAddress(const initiator::Address& address) const;

  uint64_t id() const { return options_.id; }
  State state() const { return state_; }
  bool is_up() const { return state_ == State::kEnabled; }
  /// Returns a number that is incremented each time the path comes up.
  uint64_t epoch() const { return epoch_; }
  /// Returns the association with the address in use.
  const initiator::Association& association() const { return options_.controller.association; }
  const Options& options() const { return options_; }
  /// Returns the data that the controller reported when the path was last up.
  const initiator::ControllerInfo& info() const { return info_; }
  const std::vector<initiator::NamespaceInfo>& namespaces() const { return namespaces_; }
  /// Returns the controller. Valid only while the path is up.
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
  bool event_open_ = false;  // true after a namespace event until the log page has been read
  initiator::ControllerInfo info_;
  std::vector<initiator::NamespaceInfo> namespaces_;
  initiator::AnaGroups ana_;
  bool ana_refresh_open_ = false;
  BackOff back_off_;
  Reactor::TimerId ana_timer_ = 0;  // set while a group is in the change state
  Reactor::TimerId attempt_timer_ = 0;
  Reactor::TimerId fail_timer_ = 0;
  Reactor::TimerId loss_timer_ = 0;
  std::vector<std::function<void(int error)>> on_reset_;
};

/// Returns SPDK's name for the state of a controller.
const char* StateName(Path::State state);

}  // namespace sma::storage_target::bdev_nvme
