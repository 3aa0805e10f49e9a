// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "storage_target/bdev_modules/iscsi/connection.h"
#include "storage_target/bdev_modules/iscsi/host_look_up.h"
#include "storage_target/reactor/reactor.h"

namespace sma::storage_target::bdev_iscsi {

/// A persistent session with one logical unit: reconnects when the connection is lost, and resends
/// commands whose completion is unknown. A command waits for a connection until it times out.
///
/// A target may put another unit in the place of this one while the session is up, and not report
/// it. The identity of the unit is therefore verified after each login, after a result for which
/// MayBeAnotherUnit is true, after 1 ms without commands, and during I/O every 50 ms to 1 s, 50
/// times as long as a verification takes; meanwhile no command is sent. Commands that wait for a
/// unit that has been replaced end with kReplaced.
///
/// Used on the reactor's thread.
class Session : public std::enable_shared_from_this<Session>, private Connection::Owner {
 public:
  struct Options {
    Connection::Options connection;
    /// Timeout of a command, including the time during which it waits; if 0, there is no timeout.
    std::chrono::seconds command_timeout{30};
    /// The required identity of the unit (ParseIdentity); if empty, it is not verified.
    std::string identity{};
  };

  /// The callbacks run in the event loop.
  class Observer {
   public:
    virtual ~Observer() = default;
    virtual void OnUnitAttention(uint16_t asc_ascq) = 0;
    /// Called when the unit may have been replaced by another one. The other sessions with the unit
    /// should verify its identity.
    virtual void OnMayBeReplaced() {}
    /// Called when the first attempt to connect has failed. The session continues to try.
    virtual void OnUnreachable(const std::string& /*reason*/) {}
  };

  /// Starts a session, which begins to connect. `observer` must live until Close is called.
  static std::shared_ptr<Session> Start(Reactor& reactor, const Options& options,
                                        Observer& observer);
  ~Session() override;

  void Submit(Command& command);
  /// Aborts `command`, which was submitted and has not ended. Returns true if it has ended with
  /// kAborted before the return. Returns false if the target has already received it: the target is
  /// requested to abort it (ABORT TASK), it is not sent again, and it ends with kAborted if the
  /// connection is lost.
  bool Abort(Command& command);
  /// Ends every command with kAborted before the return. Reconnects if a command is outstanding, so
  /// that nothing accesses its data any more.
  void AbortAll();
  /// Verifies the identity of the unit before any further command is sent. Commands that end with
  /// GOOD before that are sent again, because another unit may have executed them.
  void RequestVerification();
  /// Like AbortAll, but final: later commands also end with kAborted. The observer is no longer
  /// called.
  void Close();

 private:
  enum class State : uint8_t { kConnecting, kVerifying, kReady, kWaiting, kClosed };

  /// Runs once at the end of the round, and keeps the session alive until then.
  struct Pump : Deferred {
    std::shared_ptr<Session> session;
  };

  Session(Reactor& reactor, const Options& options, Observer& observer);

  // Implementation of Connection::Owner.
  void OnLoggedIn() override;
  void OnCommandDone(Command& command) override;
  void OnClosed(const std::string& reason) override;

  void Connect();
  void ConnectTo(const Connection::Options& options);
  void Disconnect();
  void Retry(const std::string& reason);
  void LogOnce(const std::string& reason);
  bool MustVerify() const;
  void Verify();
  void OnVerified(const CommandResult& result);
  void OnOtherUnit(const CommandResult& outcome, bool live, const std::string& reason);
  void Distrust();
  void BecomeReady(bool live);
  void SchedulePump();
  void SendWaiting();
  void HoldBack();
  void Finish(Command& command);
  static void FinishAll(CommandList commands, const CommandResult& result);
  void ScheduleTick();
  void Tick();
  bool IsLate(const Command& command) const;
  size_t in_flight_count() const { return connection_ ? connection_->command_count() : 0; }

  Reactor& reactor_;
  const Options options_;
  Observer* observer_;
  State state_ = State::kConnecting;
  bool was_ready_ = false;
  std::string logged_error_;  // the last logged error, while not connected
  uint64_t ready_since_ns_ = 0;
  std::unique_ptr<HostLookUp> look_up_;  // set while a look-up is running
  std::unique_ptr<Connection> connection_;
  CommandList waiting_;
  CommandList ended_;  // aborted or lost; completed at the end of the round
  Pump pump_;
  Reactor::TimerId connect_timer_ = 0;
  Reactor::TimerId hold_timer_ = 0;
  Reactor::TimerId tick_timer_ = 0;

  // The verification of the unit's identity.
  bool verify_requested_ = false;  // before any further command is sent
  bool distrusted_ = false;        // the unit may be another one, until it is verified
  bool verifies_live_ = false;     // in the state kVerifying: not after a login
  uint64_t verified_ns_ = 0;
  uint64_t verify_sent_ns_ = 0;
  uint64_t verify_period_ns_ = 0;
  uint64_t last_answer_ns_ = 0;
  struct Verification : Command {
    std::array<uint8_t, 1024> page{};
  };
  Verification verification_;
};

}  // namespace sma::storage_target::bdev_iscsi
