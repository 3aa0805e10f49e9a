#include "target/bdev_modules/iscsi/session.h"

#include <netdb.h>

#include <utility>

#include "base/log.h"
#include "target/bdev_modules/iscsi/lun_info.h"

namespace sma::target::bdev_iscsi {
namespace {

using Kind = CommandResult::Kind;

// Fewer than targets let one connection have under way, so that libiscsi keeps none back.
constexpr size_t kMaxInFlight = 64;
constexpr std::chrono::milliseconds kReconnectPause(500);
constexpr std::chrono::milliseconds kHoldPause(100);  // while the unit is busy
constexpr std::chrono::seconds kTick(1);
constexpr uint32_t kMaxRetriesAtOnce = 8;
constexpr uint64_t kNsPerSecond = 1'000'000'000;
constexpr uint64_t kVerifyTimeoutNs = 5 * kNsPerSecond;

}  // namespace

std::shared_ptr<Session> Session::Start(Reactor& reactor, const Options& options,
                                        Observer& observer) {
  std::shared_ptr<Session> session(new Session(reactor, options, observer));
  // Not at once, so that nobody is called before this returns.
  session->connect_timer_ =
      reactor.AddTimer(std::chrono::seconds(0), [s = session.get()] { s->Connect(); });
  return session;
}

Session::Session(Reactor& reactor, const Options& options, Observer& observer)
    : reactor_(reactor), options_(options), observer_(&observer) {
  verification_.session = this;
  verification_.done = OnVerified;
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
  // Each time anew: the host may have moved.
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

// The connection may be the caller's caller, so it goes later.
void Session::Disconnect() {
  if (!connection_) return;
  connection_->Close();
  waiting_.Prepend(connection_->TakeUnanswered());
  reactor_.Post([gone = std::shared_ptr<Connection>(std::move(connection_))] {});
  if (state_ == State::kVerifying) waiting_.Remove(verification_);
}

void Session::OnClosed(const std::string& reason) {
  std::shared_ptr<Session> keep = shared_from_this();
  Disconnect();
  Retry(reason);
}

void Session::Retry(const std::string& reason) {
  bool lasted = state_ == State::kReady && reactor_.now_ns() - ready_since_ns_ > kNsPerSecond;
  state_ = State::kWaiting;
  if (reason != complaint_) {
    spdlog::warn("{}: {}", options_.connection.lun.ToString(), reason);
    complaint_ = reason;
  }
  connect_timer_ = reactor_.AddTimer(lasted ? std::chrono::milliseconds(0) : kReconnectPause,
                                     [this] { Connect(); });
  if (!was_ready_) observer_->OnUnreachable(reason);
}

void Session::OnLoggedIn() {
  if (!options_.identity.empty()) return Verify();
  OnVerified(verification_, {});
}

void Session::Verify() {
  constexpr uint16_t kPageBytes = sizeof verification_.page;
  MakeInquiry(verification_, true, kPageIdentification, kPageBytes);
  verification_.SetData(Command::Direction::kIn, verification_.page.data(), kPageBytes);
  verification_.deadline_ns = reactor_.now_ns() + kVerifyTimeoutNs;
  if (!connection_->Submit(verification_)) return OnClosed(connection_->error());
  state_ = State::kVerifying;
  connection_->Flush();
  ScheduleTick();
}

void Session::OnVerified(Command& command, const CommandResult& result) {
  Session& self = *static_cast<Verification&>(command).session;
  self.state_ = State::kConnecting;
  if (!self.options_.identity.empty()) {
    Bytes page(static_cast<Verification&>(command).page.data(), result.data_bytes);
    if (!result.good() || ParseIdentity(page) != self.options_.identity) {
      return self.OnClosed("the logical unit is another one now");
    }
  }
  if (!self.complaint_.empty()) {
    spdlog::info("{}: connected", self.options_.connection.lun.ToString());
    self.complaint_.clear();
  }
  self.state_ = State::kReady;
  self.was_ready_ = true;
  self.ready_since_ns_ = self.reactor_.now_ns();
  self.SchedulePump();
}

void Session::Submit(Command& command) {
  auto timeout_ns =
      static_cast<uint64_t>(std::chrono::nanoseconds(options_.command_timeout).count());
  command.deadline_ns = timeout_ns == 0 ? UINT64_MAX : reactor_.now_ns() + timeout_ns;
  command.retries = 0;
  waiting_.PushBack(command);
  SchedulePump();
  ScheduleTick();
}

void Session::SchedulePump() {
  if (pump_.scheduled()) return;
  pump_.session = shared_from_this();
  reactor_.Defer(pump_);
}

void Session::SendWaiting() {
  if (state_ == State::kClosed) return FinishAll(std::move(waiting_), Kind::kAborted);
  if (state_ != State::kReady || hold_timer_ != 0) return;
  while (!waiting_.empty() && connection_->command_count() < kMaxInFlight) {
    Command& command = waiting_.PopFront();
    if (connection_->Submit(command)) continue;
    waiting_.PushFront(command);
    return OnClosed(connection_->error());
  }
  connection_->Flush();
}

void Session::OnCommandDone(Command& command) {
  if (&command == &verification_) return OnVerified(command, command.result);
  if (IsUnitAttention(command.result)) observer_->OnUnitAttention(command.result.asc_ascq);
  Verdict verdict = Judge(command.result);
  if (verdict == Verdict::kFinal || IsLate(command)) return Finish(command);
  waiting_.PushFront(command);
  bool at_once = verdict == Verdict::kAgain && ++command.retries <= kMaxRetriesAtOnce;
  at_once ? SchedulePump() : HoldBack();
}

void Session::HoldBack() {
  if (hold_timer_ != 0) return;
  hold_timer_ = reactor_.AddTimer(kHoldPause, [this] {
    hold_timer_ = 0;
    SchedulePump();
  });
}

// What waits may go now.
void Session::Finish(Command& command) {
  if (!waiting_.empty()) SchedulePump();
  command.done(command, command.result);
}

void Session::FinishAll(CommandList commands, Kind kind) {
  while (!commands.empty()) {
    Command& command = commands.PopFront();
    command.result = {.kind = kind};
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

// A command that takes too long may be done only when nothing can touch its data any more, so the
// connection goes with it.
void Session::Tick() {
  if (in_flight_count() != 0) {
    const Command* oldest = connection_->in_flight().front();
    if (oldest != nullptr && IsLate(*oldest)) {
      OnClosed("a command took too long");
    } else if (!connection_->Ping()) {
      OnClosed("the other side does not answer");
    }
  }
  CommandList late;
  for (Command* command = waiting_.front(); command != nullptr;) {
    Command* next = command->next;
    if (IsLate(*command)) {
      waiting_.Remove(*command);
      late.PushBack(*command);
    }
    command = next;
  }
  if (!waiting_.empty() || in_flight_count() != 0) ScheduleTick();
  FinishAll(std::move(late), Kind::kTimedOut);
}

void Session::AbortAll() {
  if (in_flight_count() != 0) {
    Disconnect();
    Retry("commands under way were aborted");
  }
  FinishAll(std::move(waiting_), Kind::kAborted);
}

void Session::Close() {
  if (state_ == State::kClosed) return;
  look_up_.reset();
  Disconnect();
  state_ = State::kClosed;
  for (Reactor::TimerId* timer : {&connect_timer_, &hold_timer_, &tick_timer_}) {
    reactor_.CancelTimer(std::exchange(*timer, 0));
  }
  FinishAll(std::move(waiting_), Kind::kAborted);
}

}  // namespace sma::target::bdev_iscsi
