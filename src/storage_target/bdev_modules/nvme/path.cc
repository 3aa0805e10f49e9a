// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/nvme/path.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace sma::storage_target::bdev_nvme {

using initiator::Address;
using initiator::Controller;
using initiator::NamespaceInfo;
using std::chrono::seconds;

namespace {

constexpr std::chrono::milliseconds kAnaPollInterval{500};

}  // namespace

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
    case Path::State::kLeaving:
      return "deleting";
  }
  return "";
}

Path::Path(Reactor& reactor, const Options& options, Owner& owner)
    : reactor_(reactor),
      options_(options),
      owner_(owner),
      back_off_(seconds(options.reconnect.reconnect_delay_sec)) {}

Path::~Path() {
  StopTimers();
  DropController();
}

void Path::Start() { Connect(); }

void Path::Connect() {
  DropController();
  controller_ = std::make_unique<Controller>(reactor_, options_.controller,
                                             static_cast<Controller::Owner&>(*this));
  controller_->Start();
}

void Path::DropController() {
  scan_.reset();
  reactor_.CancelTimer(std::exchange(ana_timer_, 0));
  controller_.reset();
  scan_again_ = event_open_ = ana_refresh_open_ = false;
}

void Path::OnControllerReady(Controller& controller) {
  // The controller is a discovery controller, which may report any NQN.
  if (controller.io_queue_count() == 0) return controller.Reset("the controller has no I/O queues");
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
  namespaces_ = std::move(namespaces);
  // The result may be older than the event; OnNamespacesChanged follows.
  if (event_open_) return;
  if (scan_again_) return Scan();
  if (info_.ana_group_count == 0) return FinishScan();
  controller_->ReadAnaLog(/*event_seen=*/false, [this](const initiator::AnaGroups& groups) {
    SetAna(groups);
    if (!scan_ && !event_open_) FinishScan();
  });
}

void Path::FinishScan() {
  if (is_up()) return owner_.OnNamespacesChanged(*this);
  StopTimers();
  state_ = State::kEnabled;
  ++epoch_;
  up_since_ns_ = reactor_.now_ns();
  FinishReset(0);
  owner_.OnPathUp(*this);
}

void Path::OnNamespaceEvent(Controller& /*controller*/, const std::function<void()>& proceed) {
  event_open_ = true;
  if (!is_up()) return proceed();
  owner_.OnNamespacesChanging(*this, proceed);
}

void Path::OnNamespacesChanged(Controller& /*controller*/) {
  event_open_ = false;
  // Only one scan runs at a time; a change during a scan causes another scan.
  if (scan_) {
    scan_again_ = true;
  } else {
    Scan();
  }
}

void Path::OnAnaChanged(Controller& /*controller*/, const initiator::AnaGroups& groups) {
  SetAna(groups);
  if (is_up()) owner_.OnAnaChanged(*this);
}

void Path::RefreshAna() {
  if (!is_up() || info_.ana_group_count == 0 || std::exchange(ana_refresh_open_, true)) return;
  controller_->ReadAnaLog(/*event_seen=*/false, [this](const initiator::AnaGroups& groups) {
    ana_refresh_open_ = false;
    SetAna(groups);
    if (is_up()) owner_.OnAnaChanged(*this);
  });
}

// Sets the ANA states. The change state ends with an event, but the event may be lost or the
// controller may not support it, so a timer also polls the state.
void Path::SetAna(const initiator::AnaGroups& groups) {
  ana_ = groups;
  bool changing = std::any_of(groups.begin(), groups.end(), [](const auto& group) {
    return group.second == nvme::AnaState::kChange;
  });
  reactor_.CancelTimer(std::exchange(ana_timer_, 0));
  if (!changing) return;
  ana_timer_ = reactor_.AddTimer(kAnaPollInterval, [this] {
    ana_timer_ = 0;
    RefreshAna();
  });
}

nvme::AnaState Path::AnaStateOf(const NamespaceInfo& info) const {
  auto found = ana_.find(info.ana_group);
  return found == ana_.end() ? nvme::AnaState::kOptimized : found->second;
}

void Path::Abort(uint64_t epoch, uint16_t queue_id, uint16_t cid, std::function<void()> done) {
  if (is_up() && epoch == epoch_) controller_->Abort(queue_id, cid, std::move(done));
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
  DropController();
  state_ = State::kWaiting;
  back_off_.ConnectionLost(reactor_.now_ns() - up_since_ns_);
  StartLossTimers();
  ScheduleAttempt();
  owner_.OnPathDown(*this);
}

void Path::AttemptFailed(const std::string& reason) {
  DropController();
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
    return owner_.OnPathFailing(*this);
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
      owner_.OnPathFailing(*this);
    });
  }
  if (reconnect.ctrlr_loss_timeout_sec > 0) {
    loss_timer_ = reactor_.AddTimer(seconds(reconnect.ctrlr_loss_timeout_sec), [this] {
      loss_timer_ = 0;
      StopTimers();
      DropController();
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

void Path::Refuse(const std::string& reason) {
  if (is_up()) controller_->Reset(reason);
}

void Path::Reset(std::function<void(int error)> done) {
  if (state_ == State::kLeaving) return done(ENXIO);
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
  state_ = State::kLeaving;
  scan_.reset();
  reactor_.CancelTimer(std::exchange(ana_timer_, 0));
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

}  // namespace sma::storage_target::bdev_nvme
