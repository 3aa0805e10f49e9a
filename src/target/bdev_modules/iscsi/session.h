#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "target/bdev_modules/iscsi/connection.h"
#include "target/bdev_modules/iscsi/host_look_up.h"
#include "target/reactor/reactor.h"

namespace sma::target::bdev_iscsi {

/// A way to one logical unit that is always there: connects, connects again when the connection is
/// lost, and sends commands again that it cannot know to be done. A command waits so long as its
/// time allows. Used in the reactor's thread.
class Session : public std::enable_shared_from_this<Session>, private Connection::Owner {
 public:
  struct Options {
    Connection::Options connection;
    /// How long a command may take, waits included; 0: as long as it likes.
    std::chrono::seconds command_timeout{30};
    /// What the unit must be called (ParseIdentity), looked at after each login, so that no data
    /// go to another unit that has taken its place; empty: not looked at.
    std::string identity{};
  };

  /// Both are called from the event loop.
  class Observer {
   public:
    virtual ~Observer() = default;
    virtual void OnUnitAttention(uint16_t asc_ascq) = 0;
    /// The first attempt to connect failed. The session goes on trying.
    virtual void OnUnreachable(const std::string& /*reason*/) {}
  };

  /// Begins to connect. `observer` lives until Close.
  static std::shared_ptr<Session> Start(Reactor& reactor, const Options& options,
                                        Observer& observer);
  ~Session() override;

  void Submit(Command& command);
  /// Stops `command`, which was submitted and has not ended. True: it has ended with kAborted
  /// before the return. False: it is with the target, which is asked to abort it (ABORT TASK); it
  /// is not sent again, and ends with kAborted if the connection is lost.
  bool Abort(Command& command);
  /// Ends every command with kAborted before it returns, which takes a new connection when one is
  /// under way: nothing touches its data any more.
  void AbortAll();
  /// AbortAll, for good; later commands end with kAborted, too. The observer is not called any
  /// more.
  void Close();

 private:
  enum class State : uint8_t { kConnecting, kVerifying, kReady, kWaiting, kClosed };

  /// Runs once at the end of the round; keeps the session until then.
  struct Pump : Deferred {
    std::shared_ptr<Session> session;
  };

  Session(Reactor& reactor, const Options& options, Observer& observer);

  // Connection::Owner.
  void OnLoggedIn() override;
  void OnCommandDone(Command& command) override;
  void OnClosed(const std::string& reason) override;

  void Connect();
  void ConnectTo(const Connection::Options& options);
  void Disconnect();
  void Retry(const std::string& reason);
  void Verify();
  static void OnVerified(Command& command, const CommandResult& result);
  void SchedulePump();
  void SendWaiting();
  void HoldBack();
  void Finish(Command& command);
  void FinishAll(CommandList commands, CommandResult::Kind kind);
  void ScheduleTick();
  void Tick();
  bool IsLate(const Command& command) const;
  size_t in_flight_count() const { return connection_ ? connection_->command_count() : 0; }

  Reactor& reactor_;
  const Options options_;
  Observer* observer_;
  State state_ = State::kConnecting;
  bool was_ready_ = false;
  std::string complaint_;  // what was logged last, while it is not connected
  uint64_t ready_since_ns_ = 0;
  std::unique_ptr<HostLookUp> look_up_;  // while it is under way
  std::unique_ptr<Connection> connection_;
  CommandList waiting_;
  CommandList ended_;  // aborted, and lost with their connection; told at the end of the round
  Pump pump_;
  Reactor::TimerId connect_timer_ = 0;
  Reactor::TimerId hold_timer_ = 0;
  Reactor::TimerId tick_timer_ = 0;

  struct Verification : Command {
    Session* session = nullptr;
    std::array<uint8_t, 1024> page{};
  };
  Verification verification_;
};

}  // namespace sma::target::bdev_iscsi
