// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/iscsi/session.h"

#include <netdb.h>

#include <random>
#include <utility>

#include "base/log.h"

namespace sma::storage_target::bdev_iscsi {
namespace {

using Kind = CommandResult::Kind;

// Below the limit that targets usually have for one connection, so that libiscsi does not queue
// commands.
constexpr size_t kMaxInFlight = 64;
constexpr std::chrono::milliseconds kReconnectPause(500);
constexpr std::chrono::milliseconds kHoldPause(100);  // while the unit is busy
constexpr std::chrono::seconds kTick(1);
constexpr uint32_t kMaxRetriesAtOnce = 8;
constexpr CommandResult kAborted{.kind = Kind::kAborted};
constexpr uint64_t kNsPerSecond = 1'000'000'000;

// Each session has its own identifier and keeps it for all connections. The target therefore ends
// the tasks of a lost connection before the commands are sent again.
Session::Options WithIsid(Session::Options options) {
  constexpr uint64_t kIsidMask = (uint64_t{1} << 40) - 1;
  std::random_device random;
  options.connection.isid = (uint64_t{random()} << 32 | random()) & kIsidMask;
  return options;
}

}  // namespace

std::shared_ptr<Session> Session::Start(Reactor& reactor, const Options& options,
                                        Observer& observer) {
  std::shared_ptr<Session> session(new Session(reactor, options, observer));
  // Delayed, so that no callback runs before this function returns.
  session->connect_timer_ =
      reactor.AddTimer(std::chrono::seconds(0), [s = session.get()] { s->Connect(); });
  return session;
}

Session::Session(Reactor& reactor, const Options& options, Observer& observer)
    : reactor_(reactor), options_(WithIsid(options)), observer_(&observer) {
  pump_.run = [](Deferred& deferred) {
    std::shared_ptr<Session> session = std::move(static_cast<Pump&>(deferred).session);
    session->SendWaiting();
  };
}

Session::~Session() { Close(); }

void Session::Connect() {
  connect_timer_ = 0;
  state_ = State::kConnecting;
  const std::string host = options_.connection.lun.host_name();
  if (host.empty()) return ConnectTo(options_.connection);
  // Resolves the name for each attempt, because the address may have changed.
  look_up_ = std::make_unique<HostLookUp>(reactor_, host, [this](int error, const std::string& ip) {
    look_up_.reset();
    if (error != 0) return Retry(::gai_strerror(error));
    Connection::Options options = options_.connection;
    options.lun.portal = options.lun.PortalAt(ip);
    ConnectTo(options);
  });
}

void Session::ConnectTo(const Connection::Options& options) {
  Connection::Owner& owner = *this;
  connection_ = std::make_unique<Connection>(reactor_, options, owner);
  if (!connection_->Start()) {
    std::string reason = connection_->error();
    Disconnect();
    Retry(reason);
  }
}

// This function may be called from the connection, so the connection is destroyed later.
void Session::Disconnect() {
  if (!connection_) return;
  connection_->Close();
  CommandList unanswered = connection_->TakeUnanswered();
  for (Command* command = unanswered.front(); command != nullptr;) {
    Command* next = unanswered.After(*command);
    if (command->aborted) {
      unanswered.Remove(*command);
      ended_.PushBack(*command);
    }
    command = next;
  }
  waiting_.Prepend(std::move(unanswered));
  reactor_.Post([gone = std::shared_ptr<Connection>(std::move(connection_))] {});
  if (state_ == State::kVerifying) waiting_.Remove(verification_);
}

void Session::OnClosed(const std::string& reason) {
  std::shared_ptr<Session> keep = shared_from_this();
  Disconnect();
  Retry(reason);
  if (!ended_.empty()) SchedulePump();
}

void Session::Retry(const std::string& reason) {
  bool was_ready = state_ == State::kReady || verifies_live_;
  verifies_live_ = false;
  bool lasted = was_ready && reactor_.now_ns() - ready_since_ns_ > kNsPerSecond;
  state_ = State::kWaiting;
  LogOnce(reason);
  connect_timer_ = reactor_.AddTimer(lasted ? std::chrono::milliseconds(0) : kReconnectPause,
                                     [this] { Connect(); });
  if (!was_ready_) observer_->OnUnreachable(reason);
}

void Session::LogOnce(const std::string& reason) {
  if (reason == logged_error_) return;
  spdlog::warn("{}: {}", options_.connection.lun.ToString(), reason);
  logged_error_ = reason;
}

void Session::OnLoggedIn() { options_.identity.empty() ? BecomeReady(false) : Verify(); }

void Session::BecomeReady(bool live) {
  if (!logged_error_.empty()) {
    spdlog::info("{}: connected", options_.connection.lun.ToString());
    logged_error_.clear();
  }
  state_ = State::kReady;
  was_ready_ = true;
  if (!live) ready_since_ns_ = reactor_.now_ns();
  SchedulePump();
}

void Session::Submit(Command& command) {
  auto timeout_ns =
      static_cast<uint64_t>(std::chrono::nanoseconds(options_.command_timeout).count());
  command.deadline_ns = timeout_ns == 0 ? UINT64_MAX : reactor_.now_ns() + timeout_ns;
  command.retries = 0;
  command.aborted = false;
  waiting_.PushBack(command);
  SchedulePump();
  ScheduleTick();
}

bool Session::Abort(Command& command) {
  if (command.task == nullptr && !command.aborted) {
    waiting_.Remove(command);
    command.aborted = true;
    command.result = kAborted;
    command.done(command, command.result);
    return true;
  }
  if (!std::exchange(command.aborted, true)) connection_->AbortTask(command);
  return false;
}

void Session::SchedulePump() {
  if (pump_.scheduled()) return;
  pump_.session = shared_from_this();
  reactor_.Defer(pump_);
}

void Session::SendWaiting() {
  FinishAll(std::move(ended_), kAborted);
  if (state_ == State::kClosed) return FinishAll(std::move(waiting_), kAborted);
  if (state_ != State::kReady || hold_timer_ != 0) return;
  if (MustVerify()) return Verify();
  while (!waiting_.empty() && connection_->command_count() < kMaxInFlight) {
    Command& command = waiting_.PopFront();
    if (connection_->Submit(command)) continue;
    waiting_.PushFront(command);
    return OnClosed(connection_->error());
  }
  connection_->Flush();
}

void Session::OnCommandDone(Command& command) {
  last_answer_ns_ = reactor_.now_ns();
  if (&command == &verification_) return OnVerified(command.result);
  if (IsUnitAttention(command.result)) observer_->OnUnitAttention(command.result.asc_ascq);
  const bool other_unit = MayBeAnotherUnit(command.result);
  if (other_unit) Distrust();
  RetryAction action = RetryActionFor(command.result);
  if (distrusted_ && (other_unit || command.result.good())) action = RetryAction::kAtOnce;
  if (action == RetryAction::kFinal) return Finish(command);
  if (IsLate(command)) {
    if (command.result.good()) command.result = {.kind = Kind::kTimedOut};
    return Finish(command);
  }
  if (command.aborted) {
    command.result = kAborted;
    return Finish(command);
  }
  waiting_.PushFront(command);
  bool at_once = action == RetryAction::kAtOnce && ++command.retries <= kMaxRetriesAtOnce;
  at_once ? SchedulePump() : HoldBack();
}

void Session::HoldBack() {
  if (hold_timer_ != 0) return;
  hold_timer_ = reactor_.AddTimer(kHoldPause, [this] {
    hold_timer_ = 0;
    SchedulePump();
  });
}

// Ends a command, after which waiting commands can be sent.
void Session::Finish(Command& command) {
  if (!waiting_.empty()) SchedulePump();
  command.done(command, command.result);
}

void Session::FinishAll(CommandList commands, const CommandResult& result) {
  // `done` may try to abort other commands of this list, which no longer has an effect.
  for (Command* command = commands.front(); command != nullptr;
       command = commands.After(*command)) {
    command->aborted = true;
  }
  while (!commands.empty()) {
    Command& command = commands.PopFront();
    command.result = result;
    command.done(command, command.result);
  }
}

bool Session::IsLate(const Command& command) const {
  return reactor_.now_ns() >= command.deadline_ns;
}

void Session::ScheduleTick() {
  if (tick_timer_ != 0) return;
  tick_timer_ = reactor_.AddTimer(kTick, [this] {
    std::shared_ptr<Session> keep = shared_from_this();
    tick_timer_ = 0;
    Tick();
  });
}

// A command that has timed out may end only when nothing can access its data any more, so its
// connection is closed.
void Session::Tick() {
  if (in_flight_count() != 0) {
    const Command* oldest = connection_->in_flight().front();
    const bool verification_is_late = state_ == State::kVerifying && IsLate(verification_);
    if (verification_is_late || (oldest != nullptr && IsLate(*oldest))) {
      OnClosed("a command timed out");
    } else if (!connection_->Ping()) {
      OnClosed("the target does not answer");
    }
  }
  CommandList late;
  for (Command* command = waiting_.front(); command != nullptr;) {
    Command* next = waiting_.After(*command);
    if (IsLate(*command)) {
      waiting_.Remove(*command);
      late.PushBack(*command);
    }
    command = next;
  }
  if (!waiting_.empty() || in_flight_count() != 0) ScheduleTick();
  FinishAll(std::move(late), {.kind = Kind::kTimedOut});
}

void Session::AbortAll() {
  if (in_flight_count() != 0) {
    Disconnect();
    Retry("reconnecting to abort outstanding commands");
  }
  FinishAll(std::move(ended_), kAborted);
  FinishAll(std::move(waiting_), kAborted);
}

void Session::Close() {
  if (state_ == State::kClosed) return;
  look_up_.reset();
  Disconnect();
  state_ = State::kClosed;
  for (Reactor::TimerId* timer : {&connect_timer_, &hold_timer_, &tick_timer_}) {
    reactor_.CancelTimer(std::exchange(*timer, 0));
  }
  FinishAll(std::move(ended_), kAborted);
  FinishAll(std::move(waiting_), kAborted);
}

}  // namespace sma::storage_target::bdev_iscsi
