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

#include "target/bdev_modules/nvme/initiator/ana_log.h"
#include "target/bdev_modules/nvme/initiator/identity.h"
#include "target/bdev_modules/nvme/initiator/reactor_queue_pair.h"
#include "target/nvme/log_page.h"
#include "target/nvme/property.h"
#include "target/reactor/reactor.h"

namespace sma::target::initiator {

/// The host's side of one remote controller: its admin queue, from Connect to shutdown, with
/// keep-alive and asynchronous events. Made, used and destroyed in the thread of its reactor. I/O
/// queues are QueuePairs of their own, made with IoQueueOptions.
class Controller : private ReactorQueuePair::Owner {
 public:
  class Owner {
   public:
    virtual ~Owner() = default;
    /// It is enabled and info() is known.
    virtual void OnControllerReady(Controller& controller) = 0;
    /// It could not be reached or was lost, and does nothing any more. It may be destroyed in here.
    virtual void OnControllerClosed(Controller& controller, const std::string& reason) = 0;
    // Asynchronous events.

    /// Namespaces have changed, and which is not known yet. `proceed`, to be called once, from this
    /// thread, reads the Changed Namespace List; from then on the remote side may use the NSIDs
    /// anew, so nothing should be sent to one that has not been identified again. Nothing when the
    /// controller is closed by then.
    virtual void OnNamespaceEvent(Controller& /*controller*/,
                                  const std::function<void()>& proceed) {
      proceed();
    }
    /// The Changed Namespace List has been read.
    virtual void OnNamespacesChanged(Controller& /*controller*/) {}
    /// The ANA log page has changed.
    virtual void OnAnaChanged(Controller& /*controller*/, const AnaGroups& /*groups*/) {}
    virtual void OnDiscoveryLogChanged(Controller& /*controller*/) {}
  };

  struct Options {
    Association association;
    uint32_t keep_alive_ms = 10000;  // 0: none
    uint16_t io_queue_count = 1;     // to ask for
    std::chrono::milliseconds connect_timeout{10000};
    std::chrono::milliseconds admin_timeout{30000};  // of one admin command; 0: none
    uint32_t ack_timeout_ms = 0;                     // see QueuePair::Options
  };

  Controller(Reactor& reactor, const Options& options, Owner& owner);
  /// Commands under way are dropped: their callbacks are not called.
  ~Controller() override;

  /// Begins; the owner is told later how it went.
  void Start();

  bool ready() const { return state_ == State::kReady; }
  /// When it was ready once.
  const ControllerInfo& info() const { return info_; }
  /// How many I/O queues the controller allows, at most as many as were asked for; 0 for a
  /// discovery controller.
  uint16_t io_queue_count() const { return io_queue_count_; }
  const Options& options() const { return options_; }

  /// For the I/O queue `queue_id` (1 to io_queue_count()) with as many `entries` as wanted and
  /// possible.
  QueuePair::Options IoQueueOptions(uint16_t queue_id, uint16_t entries) const;

  /// Called with the status and what came back; never before Execute has returned.
  struct Result {
    nvme::Completion completion;
    std::span<const std::byte> data;
    bool ok() const { return nvme::StatusOf(completion.status) == nvme::Status::kSuccess; }
  };
  using Callback = std::function<void(const Result& result)>;
  /// Executes an admin command; `data_bytes` come from the controller when its opcode says so. The
  /// callback is dropped when the controller is closed first.
  void Execute(const nvme::Command& command, uint32_t data_bytes, Callback callback);
  void Identify(nvme::Cns cns, uint32_t nsid, Callback callback);
  void GetLogPage(const nvme::GetLogPage& page, Callback callback);
  /// Reads the ANA log page; empty when that failed. `event_seen`: the controller may send the next
  /// event about it.
  void ReadAnaLog(bool event_seen, std::function<void(const AnaGroups& groups)> callback);
  /// Sends an Abort command for the command `cid` of the I/O queue `queue_id`, as soon as the
  /// controller's limit lets it; `done` when it has been answered. Dropped as in Execute.
  void Abort(uint16_t queue_id, uint16_t cid, std::function<void()> done);

  /// Tells the controller that this host leaves (CC.SHN), waits for it to agree, 2 seconds at most,
  /// closes; then `done`. The owner is not called any more. The controller may be destroyed in
  /// `done`. To be called once.
  void Shutdown(std::function<void()> done);

  /// Gives the connection up as if it had been lost, and tells the owner.
  void Reset(const std::string& reason) { Fail(reason); }

 private:
  enum class State : uint8_t { kIdle, kConnecting, kStarting, kReady, kShuttingDown, kClosed };
  struct Call;

  // ReactorQueuePair::Owner.
  void OnQueueReady(ReactorQueuePair& queue) override;
  void OnQueueClosed(ReactorQueuePair& queue) override;

  // The start, step by step.
  void ReadCapabilities();
  void ReadVersion();
  void Enable();
  void WaitUntilEnabled(uint64_t deadline_ns);
  void IdentifyItself();
  void SetQueueCount();
  void IdentifyLimits();
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
  Reactor::TimerId timer_ = 0;  // starting: polls; ready: keep-alive; shutting down: polls
  Reactor::TimerId shutdown_timer_ = 0;
  bool keep_alive_open_ = false;
  struct PendingAbort {
    uint16_t queue_id;
    uint16_t cid;
    std::function<void()> done;
  };
  std::deque<PendingAbort> aborts_;  // not yet sent
  uint32_t aborts_under_way_ = 0;
  std::function<void()> on_shutdown_;
  // Expires with the controller.
  std::shared_ptr<Controller*> self_ = std::make_shared<Controller*>(this);
};

}  // namespace sma::target::initiator
