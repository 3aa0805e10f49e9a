// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "storage_target/bdev_modules/nvme/initiator/ana_log.h"
#include "storage_target/bdev_modules/nvme/initiator/identity.h"
#include "storage_target/bdev_modules/nvme/initiator/reactor_queue_pair.h"
#include "storage_target/nvme/log_page.h"
#include "storage_target/nvme/property.h"
#include "storage_target/reactor/reactor.h"

namespace sma::storage_target::initiator {

/// The host side of one remote controller: its admin queue, from Connect to shutdown, with
/// keep-alive and asynchronous events. Created, used and destroyed on the thread of its reactor.
/// I/O queues are separate QueuePairs, created with IoQueueOptions.
class Controller : private ReactorQueuePair::Owner {
 public:
  class Owner {
   public:
    virtual ~Owner() = default;
    /// Called when the controller is enabled and info() is valid.
    virtual void OnControllerReady(Controller& controller) = 0;
    /// Called when the controller could not be reached or was lost; it remains closed. It may be
    /// destroyed in this callback.
    virtual void OnControllerClosed(Controller& controller, const std::string& reason) = 0;
    // Called for asynchronous events.

    /// Called when the set of namespaces has changed; the details are not known yet. `proceed`, to
    /// be called once, on this thread, reads the Changed Namespace List. From then on the remote
    /// may reuse the NSIDs, so no I/O should be sent to an NSID before its namespace is identified
    /// again. `proceed` does nothing if the controller has been closed.
    virtual void OnNamespaceEvent(Controller& /*controller*/,
                                  const std::function<void()>& proceed) {
      proceed();
    }
    /// Called when the Changed Namespace List has been read.
    virtual void OnNamespacesChanged(Controller& /*controller*/) {}
    /// Called when the ANA log page has changed.
    virtual void OnAnaChanged(Controller& /*controller*/, const AnaGroups& /*groups*/) {}
    virtual void OnDiscoveryLogChanged(Controller& /*controller*/) {}
  };

  struct Options {
    Association association;
    uint32_t keep_alive_ms = 5000;  // 0: none
    uint16_t io_queue_count = 1;    // number to request
    std::chrono::milliseconds connect_timeout{10000};
    std::chrono::milliseconds admin_timeout{30000};  // of one admin command; 0: none
    uint32_t ack_timeout_ms = 0;                     // see QueuePair::Options
  };

  Controller(Reactor& reactor, const Options& options, Owner& owner);
  /// Drops outstanding commands without calling their callbacks.
  ~Controller() override;

  /// Starts connecting; the owner is notified of the result later.
  void Start();

  bool ready() const { return state_ == State::kReady; }
  /// Returns the data that the controller reported. Valid once the controller has been ready.
  const ControllerInfo& info() const { return info_; }
  /// Returns the number of I/O queues that the controller allows, at most the requested number; 0
  /// for a discovery controller.
  uint16_t io_queue_count() const { return io_queue_count_; }
  const Options& options() const { return options_; }

  /// Returns the options for the I/O queue `queue_id` (1 to io_queue_count()), with `entries`
  /// limited to what the controller supports.
  QueuePair::Options IoQueueOptions(uint16_t queue_id, uint16_t entries) const;

  /// Returns the time after the last command of the association, on any of its queues, after which
  /// the controller executes no command of it, if it has received nothing more (NVMe Base 2.1,
  /// "Communication Loss Handling"). Valid once the controller has been ready.
  std::chrono::milliseconds quiesce_time() const;

  /// The result of a command: the status and the received data. The callback is never called before
  /// Execute has returned.
  struct Result {
    nvme::Completion completion;
    std::span<const std::byte> data;
    bool ok() const { return nvme::StatusOf(completion.status) == nvme::Status::kSuccess; }
  };
  using Callback = std::function<void(const Result& result)>;
  /// Executes an admin command; `data_bytes` are received if its opcode transfers data to the host.
  /// The callback is dropped if the controller is closed first.
  void Execute(const nvme::Command& command, uint32_t data_bytes, Callback callback);
  void Identify(nvme::Cns cns, uint32_t nsid, Callback callback);
  void GetLogPage(const nvme::GetLogPage& page, Callback callback);
  /// Reads the ANA log page; `groups` is empty if that fails. `event_seen` permits the controller
  /// to send the next event about it.
  void ReadAnaLog(bool event_seen, std::function<void(const AnaGroups& groups)> callback);
  /// Sends an Abort command for the command `cid` of the I/O queue `queue_id`, as soon as the
  /// controller's limit permits; `done` is called when the Abort command has completed. The
  /// callback is dropped as in Execute.
  void Abort(uint16_t queue_id, uint16_t cid, std::function<void()> done);

  /// Shuts the controller down (CC.SHN), waits at most 2 seconds for its confirmation, closes the
  /// connection, and calls `done`. The owner is no longer called. The controller may be destroyed
  /// in `done`. Called at most once.
  void Shutdown(std::function<void()> done);

  /// Closes the connection as if it had been lost, and notifies the owner.
  void Reset(const std::string& reason) { Fail(reason); }

 private:
  enum class State : uint8_t { kIdle, kConnecting, kStarting, kReady, kShuttingDown, kClosed };
  struct Call;

  // Implementation of ReactorQueuePair::Owner.
  void OnQueueReady(ReactorQueuePair& queue) override;
  void OnQueueClosed(ReactorQueuePair& queue) override;

  // The steps of the initialization.
  void ReadCapabilities();
  void ReadVersion();
  void Enable();
  void WaitUntilEnabled(uint64_t deadline_ns);
  void IdentifyItself();
  void SetQueueCount();
  void IdentifyLimits();
  void ReadKeepAlive();
  void SetHostBehavior();
  void ConfigureEvents();
  void BecomeReady();

  void GetProperty(nvme::Property property, bool eight_bytes,
                   std::function<void(uint64_t value)> callback);
  void SetProperty(nvme::Property property, uint32_t value, Callback callback);
  void SetFeature(nvme::Feature feature, uint32_t value, Callback callback);
  void ExecuteWith(const nvme::Command& command, std::vector<std::byte> data, Callback callback);
  void AwaitEvent();
  void HandleEvent(uint32_t dw0);
  void ReadChangedNamespaces();
  void SendAborts();
  void KeepAlive();
  void PollShutdown(int polls_left);
  void FinishShutdown();
  void Fail(const std::string& reason);
  void Close(const std::string& reason);
  bool is_discovery() const { return info_.type == nvme::ControllerType::kDiscovery; }

  Reactor& reactor_;
  const Options options_;
  Owner& owner_;
  State state_ = State::kIdle;
  std::unique_ptr<ReactorQueuePair> admin_;
  uint64_t cap_ = 0;
  uint32_t version_ = 0;
  uint32_t cc_ = 0;
  ControllerInfo info_;
  uint16_t io_queue_count_ = 0;
  uint32_t granted_keep_alive_ms_ = 0;  // 0: not reported
  Reactor::TimerId timer_ = 0;  // starting: polling; ready: keep-alive; shutting down: polling
  Reactor::TimerId shutdown_timer_ = 0;
  bool keep_alive_open_ = false;
  struct PendingAbort {
    uint16_t queue_id;
    uint16_t cid;
    std::function<void()> done;
  };
  std::deque<PendingAbort> aborts_;  // pending
  uint32_t aborts_under_way_ = 0;
  std::function<void()> on_shutdown_;
  // Expires with the controller.
  std::shared_ptr<Controller*> self_ = std::make_shared<Controller*>(this);
};

}  // namespace sma::storage_target::initiator
