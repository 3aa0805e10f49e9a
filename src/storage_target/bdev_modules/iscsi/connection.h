// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <iscsi/iscsi.h>

#include <cstdint>
#include <string>

#include "storage_target/bdev_modules/iscsi/command.h"
#include "storage_target/bdev_modules/iscsi/lun_url.h"
#include "storage_target/reactor/reactor.h"

namespace sma::storage_target::bdev_iscsi {

/// One iSCSI connection, from connecting to closing: a libiscsi context whose socket is watched by
/// the event loop. Used on the reactor's thread.
class Connection : private FdHandler {
 public:
  struct Options {
    LunUrl lun;
    std::string initiator_iqn;
    /// The 40 random bits of the session identifier (ISID, RFC 7143 §11.12.5). If a login uses the
    /// identifier of an earlier session, the target first ends that session and its tasks (§6.3.5).
    uint64_t isid = 0;
  };

  /// Called from the event loop, never from within a method of the connection.
  class Owner {
   public:
    virtual ~Owner() = default;
    virtual void OnLoggedIn() = 0;
    /// Called when a command is done and `command.result` is set. The owner may call Close() here.
    virtual void OnCommandDone(Command& command) = 0;
    /// Called when the connection was refused or lost; only TakeUnanswered() may still be called.
    virtual void OnClosed(const std::string& reason) = 0;
  };

  Connection(Reactor& reactor, const Options& options, Owner& owner);
  ~Connection() override;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  /// Starts connecting. Returns false if that fails immediately; error() has the reason, and
  /// OnClosed is not called.
  bool Start();
  std::string error() const { return ::iscsi_get_error(context_); }

  // The following functions require a logged-in connection.

  /// Submits a command. Returns false if libiscsi does not accept it.
  bool Submit(Command& command);
  /// Asks the target to abort a submitted command (ABORT TASK). The command ends with kAborted
  /// when the target has aborted it, otherwise with its own result.
  void AbortTask(Command& command);
  /// Sends the submitted commands.
  void Flush();
  /// Sends a ping. Returns false if several earlier pings have not been answered.
  bool Ping();

  /// Closes the connection; the owner is no longer called. Afterwards, the data of unanswered
  /// commands are not accessed and their unsent parts are not sent. Idempotent.
  void Close();
  bool is_closed() const { return context_ == nullptr; }
  size_t command_count() const { return in_flight_.size() + early_.size(); }
  /// Returns the outstanding commands, the oldest first.
  const CommandList& in_flight() const { return in_flight_; }
  /// Removes and returns the unanswered commands. Must be called after the connection has closed.
  CommandList TakeUnanswered();

 private:
  void OnFdReady(uint32_t events) override;
  static void OnConnected(iscsi_context* context, int status, void* data, void* self);
  static void OnLogin(iscsi_context* context, int status, void* data, void* self);
  static void OnAnswer(iscsi_context* context, int status, void* data, void* command);
  static void OnTaskAborted(iscsi_context* context, int status, void* data, void* request);
  void Service(int events);
  void DeliverAnswers();
  bool HasOutput() const;
  void UpdateWatch();
  void Fail(std::string reason);

  Reactor& reactor_;
  const Options options_;
  Owner& owner_;
  iscsi_context* context_;
  int fd_ = -1;  // the watched socket
  uint32_t watched_events_ = 0;
  Reactor::TimerId timer_ = 0;  // the login timeout; later, the delayed failure report
  // Events seen by libiscsi's callbacks, handled after libiscsi has returned.
  bool broken_ = false;
  bool logged_in_now_ = false;
  CommandList in_flight_;
  CommandList answered_;
  // Writes that were answered although libiscsi may still have to send parts of them.
  CommandList early_;
};

}  // namespace sma::storage_target::bdev_iscsi
