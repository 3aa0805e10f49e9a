// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/iscsi/connection.h"

#include <sys/epoll.h>

#include <chrono>
#include <memory>
#include <utility>

#include "base/descriptor_limit.h"
#include "base/reset_connection.h"

namespace sma::storage_target::bdev_iscsi {
namespace {

constexpr std::chrono::seconds kLoginTimeout(5);
constexpr int kMaxUnansweredPings = 3;
constexpr int kFailed = -1;

int TransferDirection(Command::Direction direction) {
  switch (direction) {
    case Command::Direction::kIn:
      return SCSI_XFER_READ;
    case Command::Direction::kOut:
      return SCSI_XFER_WRITE;
    case Command::Direction::kNone:
      break;
  }
  return SCSI_XFER_NONE;
}

CommandResult MakeResult(const scsi_task& task, int status, uint32_t wanted_bytes) {
  CommandResult result{.status = status, .data_bytes = wanted_bytes};
  if (status == SCSI_STATUS_CHECK_CONDITION) {
    result.sense_key = static_cast<uint8_t>(task.sense.key);
    result.asc_ascq = static_cast<uint16_t>(task.sense.ascq);
  }
  if (task.residual_status == SCSI_RESIDUAL_OVERFLOW) result.data_bytes = 0;  // not trusted
  if (task.residual_status == SCSI_RESIDUAL_UNDERFLOW) {
    bool sound = task.residual <= wanted_bytes;
    result.data_bytes = sound ? wanted_bytes - static_cast<uint32_t>(task.residual) : 0;
  }
  return result;
}

}  // namespace

Connection::Connection(Reactor& reactor, const Options& options, Owner& owner)
    : reactor_(reactor),
      options_(options),
      owner_(owner),
      context_(::iscsi_create_context(options_.initiator_iqn.c_str())) {}

Connection::~Connection() { Close(); }

bool Connection::Start() {
  const LunUrl& lun = options_.lun;
  ::iscsi_set_noautoreconnect(context_, 1);  // otherwise libiscsi reconnects by itself
  constexpr uint32_t kQualifierBits = 16;
  constexpr uint64_t kQualifierMask = (1 << kQualifierBits) - 1;
  bool set =
      ::iscsi_set_targetname(context_, lun.target.c_str()) == 0 &&
      ::iscsi_set_session_type(context_, ISCSI_SESSION_NORMAL) == 0 &&
      ::iscsi_set_isid_random(context_, static_cast<uint32_t>(options_.isid >> kQualifierBits),
                              static_cast<uint32_t>(options_.isid & kQualifierMask)) == 0;
  if (set && lun.initiator_chap) {
    set = ::iscsi_set_initiator_username_pwd(context_, lun.initiator_chap->name.c_str(),
                                             lun.initiator_chap->secret.c_str()) == 0;
  }
  if (set && lun.target_chap) {
    set = ::iscsi_set_target_username_pwd(context_, lun.target_chap->name.c_str(),
                                          lun.target_chap->secret.c_str()) == 0;
  }
  if (!set || ::iscsi_connect_async(context_, lun.portal.c_str(), OnConnected, this) != 0) {
    return false;
  }
  if (base::IsReservedForJsonRpc(::iscsi_get_fd(context_))) return false;
  timer_ = reactor_.AddTimer(kLoginTimeout, [this] {
    timer_ = 0;
    Fail("the login was not answered in time");
  });
  UpdateWatch();
  return fd_ >= 0;
}

void Connection::OnConnected(iscsi_context* context, int status, void* /*data*/, void* self) {
  auto& connection = *static_cast<Connection*>(self);
  if (connection.is_closed()) return;
  bool going_on =
      status == SCSI_STATUS_GOOD && ::iscsi_login_async(context, OnLogin, &connection) == 0;
  if (!going_on) connection.broken_ = true;
}

void Connection::OnLogin(iscsi_context* /*context*/, int status, void* /*data*/, void* self) {
  auto& connection = *static_cast<Connection*>(self);
  if (connection.is_closed()) return;
  (status == SCSI_STATUS_GOOD ? connection.logged_in_now_ : connection.broken_) = true;
}

bool Connection::Submit(Command& command) {
  command.connection = this;
  command.task = ::scsi_create_task(command.cdb_bytes, command.cdb.data(),
                                    TransferDirection(command.direction),
                                    static_cast<int>(command.data_bytes));
  if (command.task == nullptr) return false;
  int iov_count = static_cast<int>(command.iovs.size());
  if (command.direction == Command::Direction::kIn) {
    ::scsi_task_set_iov_in(command.task, command.iovs.data(), iov_count);
  } else if (command.direction == Command::Direction::kOut) {
    ::scsi_task_set_iov_out(command.task, command.iovs.data(), iov_count);
  }
  if (::iscsi_scsi_command_async(context_, options_.lun.lun, command.task, OnAnswer, nullptr,
                                 &command) != 0) {
    ::scsi_free_scsi_task(std::exchange(command.task, nullptr));
    return false;
  }
  in_flight_.PushBack(command);
  return true;
}

namespace {

// Identifies the task by its tag, because the command may have ended and its memory may have been
// reused when the target answers.
struct AbortRequest {
  Connection* connection;
  uint32_t itt;
};

}  // namespace

void Connection::AbortTask(Command& command) {
  auto request = std::make_unique<AbortRequest>(AbortRequest{this, command.task->itt});
  int error =
      ::iscsi_task_mgmt_abort_task_async(context_, command.task, OnTaskAborted, request.get());
  if (error != 0) return;
  static_cast<void>(request.release());
  Flush();
}

void Connection::OnTaskAborted(iscsi_context* context, int status, void* data, void* context_data) {
  std::unique_ptr<AbortRequest> request(static_cast<AbortRequest*>(context_data));
  Connection& self = *request->connection;
  if (self.is_closed() || status != SCSI_STATUS_GOOD || data == nullptr) return;
  constexpr uint32_t kFunctionComplete = 0;  // RFC 7143 §11.6.1
  if (*static_cast<const uint32_t*>(data) != kFunctionComplete) return;
  const CommandList& commands = self.in_flight_;
  for (Command* command = commands.front(); command != nullptr;
       command = commands.After(*command)) {
    if (command->task->itt != request->itt) continue;
    ::iscsi_scsi_cancel_task(context, command->task);  // calls OnAnswer
    return;
  }
}

// If a command ends without a status from the unit, the connection is lost.
void Connection::OnAnswer(iscsi_context* /*context*/, int status, void* /*data*/, void* context) {
  auto& command = *static_cast<Command*>(context);
  auto& connection = *static_cast<Connection*>(command.connection);
  if (connection.is_closed()) return;
  if (status == SCSI_STATUS_CANCELLED && command.aborted) {
    command.result = {.kind = CommandResult::Kind::kAborted};
    connection.in_flight_.Remove(command);
    connection.answered_.PushBack(command);
    return;
  }
  if (status == SCSI_STATUS_CANCELLED || status == SCSI_STATUS_ERROR ||
      status == SCSI_STATUS_TIMEOUT) {
    connection.broken_ = true;
    return;
  }
  command.result = MakeResult(*command.task, status, command.data_bytes);
  connection.in_flight_.Remove(command);
  connection.answered_.PushBack(command);
}

void Connection::OnFdReady(uint32_t events) {
  Service(static_cast<int>(events & (EPOLLIN | EPOLLOUT)));
  if (!is_closed() && (events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP)) != 0) {
    Fail("the connection was closed");
  }
}

void Connection::Flush() {
  if (HasOutput()) broken_ = ::iscsi_service(context_, EPOLLOUT) != 0 || broken_;
  // The failure is reported from the event loop.
  if (broken_) {
    reactor_.CancelTimer(std::exchange(timer_, 0));
    timer_ = reactor_.AddTimer(std::chrono::seconds(0), [this] {
      timer_ = 0;
      Fail(error());
    });
    return;
  }
  UpdateWatch();
}

// Sends libiscsi's output immediately, without another epoll round.
void Connection::Service(int events) {
  if (HasOutput()) events |= EPOLLOUT;
  bool failed = ::iscsi_service(context_, events) != 0 || broken_;
  DeliverAnswers();
  if (is_closed()) return;
  if (failed || broken_) return Fail(error());
  UpdateWatch();
  if (std::exchange(logged_in_now_, false)) {
    reactor_.CancelTimer(std::exchange(timer_, 0));
    owner_.OnLoggedIn();
  }
}

// libiscsi does not check if parts of a write are still queued when the answer arrives, so writes
// are not completed until the output queue is empty.
void Connection::DeliverAnswers() {
  if (HasOutput()) {
    CommandList answered(std::move(answered_));
    while (!answered.empty()) {
      Command& command = answered.PopFront();
      bool is_write = command.direction == Command::Direction::kOut;
      (is_write ? early_ : answered_).PushBack(command);
    }
  } else {
    answered_.Prepend(std::move(early_));
  }
  while (!answered_.empty()) {
    Command& command = answered_.PopFront();
    ::scsi_free_scsi_task(std::exchange(command.task, nullptr));
    owner_.OnCommandDone(command);
  }
}

bool Connection::HasOutput() const {
  return (::iscsi_which_events(context_) & EPOLLOUT) != 0 || ::iscsi_out_queue_length(context_) > 0;
}

// Watches the current socket, since libiscsi may have replaced it during a call.
void Connection::UpdateWatch() {
  int fd = ::iscsi_get_fd(context_);
  auto events = static_cast<uint32_t>(::iscsi_which_events(context_)) | EPOLLRDHUP;
  if (fd == fd_ && events == watched_events_) return;
  if (fd != fd_) {
    reactor_.Unwatch(fd_);
    fd_ = reactor_.Watch(fd, events, this) == 0 ? fd : -1;
  } else {
    reactor_.ModifyWatch(fd, events);
  }
  watched_events_ = events;
}

bool Connection::Ping() {
  if (::iscsi_get_nops_in_flight(context_) > kMaxUnansweredPings) return false;
  bool sent = ::iscsi_nop_out_async(context_, nullptr, nullptr, 0, nullptr) != kFailed;
  Flush();
  return sent;
}

void Connection::Fail(std::string reason) {
  Close();
  owner_.OnClosed(reason);
}

// libiscsi calls back for each command when its context is destroyed; is_closed() is true by then.
void Connection::Close() {
  if (context_ == nullptr) return;
  reactor_.CancelTimer(std::exchange(timer_, 0));
  reactor_.Unwatch(fd_);
  // Commands are sent again on another connection. The old copies must not reach the unit after the
  // new ones do.
  if (command_count() != 0) base::ResetConnection(::iscsi_get_fd(context_));
  ::iscsi_destroy_context(std::exchange(context_, nullptr));
  in_flight_.Prepend(std::move(answered_));
  in_flight_.Prepend(std::move(early_));
}

CommandList Connection::TakeUnanswered() {
  CommandList list(std::move(in_flight_));
  for (Command* command = list.front(); command != nullptr; command = list.After(*command)) {
    if (command->task != nullptr) ::scsi_free_scsi_task(std::exchange(command->task, nullptr));
  }
  return list;
}

}  // namespace sma::storage_target::bdev_iscsi
