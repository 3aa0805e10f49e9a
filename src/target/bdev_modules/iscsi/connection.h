#pragma once

#include <iscsi/iscsi.h>

#include <cstdint>
#include <string>

#include "target/bdev_modules/iscsi/command.h"
#include "target/bdev_modules/iscsi/lun_url.h"
#include "target/reactor/reactor.h"

namespace sma::target::bdev_iscsi {

/// One iSCSI connection from the first SYN to its end: a context of libiscsi with its socket in the
/// event loop. Used in the reactor's thread.
class Connection : private FdHandler {
 public:
  struct Options {
    LunUrl lun;
    std::string initiator_iqn;
  };

  /// Called from the event loop, never from within a method of the connection.
  class Owner {
   public:
    virtual ~Owner() = default;
    virtual void OnLoggedIn() = 0;
    /// `command.result` is filled. The owner may Close() the connection in here.
    virtual void OnCommandDone(Command& command) = 0;
    /// Refused or lost; nothing of it is left but TakeUnanswered().
    virtual void OnClosed(const std::string& reason) = 0;
  };

  Connection(Reactor& reactor, const Options& options, Owner& owner);
  ~Connection() override;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  /// False: it cannot even begin, error() says why, and OnClosed is not called.
  bool Start();
  std::string error() const { return ::iscsi_get_error(context_); }

  // While it is logged in.

  /// False when libiscsi does not take it.
  bool Submit(Command& command);
  /// Asks the target to abort a command that was submitted (ABORT TASK); the command ends with
  /// kAborted when the target has, or as it would have ended.
  void AbortTask(Command& command);
  /// Sends what was submitted.
  void Flush();
  /// Asks whether the other side is still there. False when it has not answered a few of these.
  bool Ping();

  /// Ends it; the owner is not called any more. The data of unanswered commands are not touched
  /// any more. Again: nothing.
  void Close();
  bool is_closed() const { return context_ == nullptr; }
  size_t command_count() const { return in_flight_.size() + early_.size(); }
  /// Those longest under way first.
  const CommandList& in_flight() const { return in_flight_; }
  /// After the end: the commands that were not answered.
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
  int fd_ = -1;  // as watched
  uint32_t watched_events_ = 0;
  Reactor::TimerId timer_ = 0;  // the end of the time to log in; then, for a failure to be told
  // What libiscsi's callbacks saw, acted upon when libiscsi has returned.
  bool broken_ = false;
  bool logged_in_now_ = false;
  CommandList in_flight_;
  CommandList answered_;
  // Writes that were answered while libiscsi may still have parts of them to send.
  CommandList early_;
};

}  // namespace sma::target::bdev_iscsi
