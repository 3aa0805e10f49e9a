#include "target/bdev_modules/nvme/path.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace sma::target::bdev_nvme {

using initiator::Address;
using initiator::Controller;
using initiator::NamespaceInfo;
using std::chrono::seconds;

const char* StateName(Path::State state) {
  switch (state) {
    case Path::State::kEnabled:
      return "enabled";
    case Path::State::kConnecting:
    case Path::State::kReconnecting:
      return "resetting";
    case Path::State::kWaiting:
      return "reconnect_is_delayed";
    case Path::State::kFailed:
      return "failed";
  }
  return "";
}

Path::Path(Reactor& reactor, const Options& options, Owner& owner)
    : reactor_(reactor),
      options_(options),
      owner_(owner),
      back_off_(seconds(options.reconnect.reconnect_delay_sec)) {}

Path::~Path() { StopTimers(); }

void Path::Start() { Connect(); }

void Path::Connect() {
  scan_.reset();
  controller_ = std::make_unique<Controller>(reactor_, options_.controller,
                                             static_cast<Controller::Owner&>(*this));
  controller_->Start();
}

void Path::OnControllerReady(Controller& controller) {
  info_ = controller.info();
  Scan();
}

void Path::Scan() {
  scan_again_ = false;
  scan_ = std::make_unique<initiator::NamespaceScan>(
      *controller_, [this](bool complete, std::vector<NamespaceInfo> namespaces) {
        OnScanned(complete, std::move(namespaces));
      });
}

void Path::OnScanned(bool complete, std::vector<NamespaceInfo> namespaces) {
  scan_.reset();
  if (!complete) return controller_->Reset("the namespaces could not be identified");
  bool was_up = is_up();
  namespaces_ = std::move(namespaces);
  if (scan_again_) return Scan();
  if (was_up) return owner_.OnNamespacesChanged(*this);
  StopTimers();
  state_ = State::kEnabled;
  ++epoch_;
  up_since_ns_ = reactor_.now_ns();
  FinishReset(0);
  owner_.OnPathUp(*this);
}

void Path::OnNamespacesChanged(Controller& /*controller*/) {
  // One scan at a time; what changes while it runs is looked at again.
  if (scan_) {
    scan_again_ = true;
  } else {
    Scan();
  }
}

void Path::OnControllerClosed(Controller& /*controller*/, const std::string& reason) {
  if (is_up()) return GoDown(reason);
  AttemptFailed(reason);
}

void Path::OnQueueLost(uint64_t epoch, const std::string& reason) {
  if (is_up() && epoch == epoch_) GoDown("I/O queue: " + reason);
}

void Path::GoDown(const std::string& reason) {
  spdlog::warn("nvme: {} at {}: {}", association().subnqn, association().address.ToString(),
               reason);
  scan_.reset();
  controller_.reset();
  state_ = State::kWaiting;
  back_off_.ConnectionLost(reactor_.now_ns() - up_since_ns_);
  StartLossTimers();
  ScheduleAttempt();
  owner_.OnPathDown(*this);
}

void Path::AttemptFailed(const std::string& reason) {
  scan_.reset();
  controller_.reset();
  spdlog::info("nvme: {} at {}: {}", association().subnqn, association().address.ToString(),
               reason);
  UseNextAddress();
  FinishReset(EIO);
  if (state_ == State::kConnecting) {
    state_ = State::kFailed;
    return owner_.OnPathRefused(*this, reason);
  }
  if (options_.reconnect.ctrlr_loss_timeout_sec == 0) {
    state_ = State::kFailed;
    return owner_.OnPathHopeless(*this);
  }
  state_ = State::kWaiting;
  ScheduleAttempt();
}

void Path::ScheduleAttempt() {
  attempt_timer_ = reactor_.AddTimer(back_off_.Next(), [this] {
    attempt_timer_ = 0;
    state_ = State::kReconnecting;
    Connect();
  });
}

void Path::StartLossTimers() {
  const ReconnectOptions& reconnect = options_.reconnect;
  if (reconnect.fast_io_fail_timeout_sec > 0) {
    fail_timer_ = reactor_.AddTimer(seconds(reconnect.fast_io_fail_timeout_sec), [this] {
      fail_timer_ = 0;
      owner_.OnPathHopeless(*this);
    });
  }
  if (reconnect.ctrlr_loss_timeout_sec > 0) {
    loss_timer_ = reactor_.AddTimer(seconds(reconnect.ctrlr_loss_timeout_sec), [this] {
      loss_timer_ = 0;
      StopTimers();
      scan_.reset();
      controller_.reset();
      state_ = State::kFailed;
      FinishReset(EIO);
      owner_.OnPathLost(*this);
    });
  }
}

void Path::StopTimers() {
  for (Reactor::TimerId* timer : {&attempt_timer_, &fail_timer_, &loss_timer_}) {
    reactor_.CancelTimer(std::exchange(*timer, 0));
  }
}

void Path::Reset(std::function<void(int error)> done) {
  on_reset_.push_back(std::move(done));
  if (state_ == State::kConnecting || state_ == State::kReconnecting) return;
  back_off_.Reset();
  if (is_up()) return GoDown("reset by request");
  reactor_.CancelTimer(std::exchange(attempt_timer_, 0));
  state_ = State::kWaiting;
  ScheduleAttempt();
}

void Path::FinishReset(int error) {
  for (auto& done : std::exchange(on_reset_, {})) done(error);
}

void Path::Shutdown(std::function<void()> done) {
  StopTimers();
  scan_.reset();
  FinishReset(ECANCELED);
  if (!controller_) return reactor_.Post(std::move(done));
  controller_->Shutdown(std::move(done));
}

void Path::AddAlternative(const Address& address) { options_.alternatives.push_back(address); }

bool Path::RemoveAlternative(const Address& address) {
  auto& alternatives = options_.alternatives;
  if (std::erase(alternatives, address) > 0) return true;
  if (alternatives.empty() || association().address != address) return false;
  UseNextAddress();
  std::erase(alternatives, address);
  Reset([](int) {});
  return true;
}

bool Path::HasAddress(const Address& address) const {
  const auto& alternatives = options_.alternatives;
  return association().address == address ||
         std::find(alternatives.begin(), alternatives.end(), address) != alternatives.end();
}

void Path::UseNextAddress() {
  auto& alternatives = options_.alternatives;
  if (alternatives.empty()) return;
  Address next = alternatives.front();
  alternatives.erase(alternatives.begin());
  alternatives.push_back(std::exchange(options_.controller.association.address, next));
}

}  // namespace sma::target::bdev_nvme
