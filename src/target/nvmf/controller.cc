#include "target/nvmf/controller.h"

#include <algorithm>

#include "spdlog/spdlog.h"
#include "target/nvmf/control_plane.h"
#include "target/reactor/reactor.h"

namespace sma::target::nvmf {
namespace {

using nvme::Property;
using nvme::Status;

constexpr uint32_t kVersion = nvme::MakeVersion(1, 4);
// How long a host may hold a controller that it has not enabled, or has shut down.
constexpr uint64_t kIdleAssociationMs = 120'000;
// A discovery controller without keep-alive lives as long as the host goes on asking (NVMe over
// Fabrics §5.2.2).
constexpr uint64_t kDiscoveryIdleMs = 120'000;

uint32_t SupportedEvents(bool discovery) {
  return discovery ? nvme::kAecDiscoveryLogChange : nvme::kAecNamespaceAttributes;
}

}  // namespace

Controller::Controller(ControlPlane& control_plane,
                       std::shared_ptr<const SubsystemOptions> subsystem, Identity identity,
                       const TransportLimits& limits, uint32_t keep_alive_ms)
    : control_plane_(control_plane),
      subsystem_(std::move(subsystem)),
      identity_(std::move(identity)),
      limits_(limits),
      io_queue_limit_(limits.max_io_queue_pairs),
      async_events_(SupportedEvents(subsystem_->discovery)) {
  nvme::Capabilities capabilities;
  capabilities.max_queue_entries = static_cast<uint16_t>(std::min(limits.max_queue_depth, 0xffffu));
  capabilities.timeout_500ms = 30;
  cap_ = capabilities.Encode();
  SetKeepAlive(keep_alive_ms);
}

void Controller::AttachAdmin(Reactor& reactor, CompletionSink& sink,
                             std::function<void()> disconnect) {
  reactor_ = &reactor;
  disconnect_admin_ = std::move(disconnect);
  async_events_.Attach(sink);
  last_activity_ns_ = reactor.now_ns();
  Supervise();
}

void Controller::DetachAdmin() {
  StopSupervision();
  async_events_.Detach();
  ready_.store(false, std::memory_order_release);
  reactor_ = nullptr;
  disconnect_admin_ = nullptr;
}

Status Controller::ReadProperty(uint32_t offset, uint32_t size_bytes, uint64_t& value) const {
  switch (static_cast<Property>(offset)) {
    case Property::kCap:
      value = cap_;
      return size_bytes == 8 ? Status::kSuccess : Status::kInvalidField;
    case Property::kVs:
      value = kVersion;
      break;
    case Property::kCc:
      value = cc_;
      break;
    case Property::kCsts:
      value = csts_;
      break;
    default:
      return Status::kInvalidField;
  }
  return size_bytes == 4 ? Status::kSuccess : Status::kInvalidField;
}

Status Controller::WriteProperty(uint32_t offset, uint32_t size_bytes, uint64_t value) {
  if (static_cast<Property>(offset) != Property::kCc || size_bytes != 4)
    return Status::kInvalidField;
  auto cc = static_cast<uint32_t>(value);
  Status status = CheckConfiguration(cc);
  if (status == Status::kSuccess) WriteConfiguration(cc);
  return status;
}

Status Controller::CheckConfiguration(uint32_t cc) const {
  bool enables = (cc & nvme::kCcEnable) != 0 && (cc_ & nvme::kCcEnable) == 0;
  if (!enables) return Status::kSuccess;
  if (nvme::CcCss(cc) != 0 || nvme::CcMps(cc) != 0 || nvme::CcAms(cc) != 0)
    return Status::kInvalidField;
  bool entry_sizes =
      nvme::CcIosqes(cc) == nvme::kSqEntryShift && nvme::CcIocqes(cc) == nvme::kCqEntryShift;
  return entry_sizes || is_discovery() ? Status::kSuccess : Status::kInvalidField;
}

void Controller::WriteConfiguration(uint32_t cc) {
  uint32_t before = std::exchange(cc_, cc);
  bool was_enabled = (before & nvme::kCcEnable) != 0;
  bool enabled = (cc & nvme::kCcEnable) != 0;
  bool shuts_down = nvme::CcShn(cc) != 0 && nvme::CcShn(before) == 0;
  if (enabled && !was_enabled) {
    Enable();
  } else if (!enabled && was_enabled) {
    async_events_.AbortAll(Status::kAbortedSqDeletion);
    Quiesce(0);
  } else if (shuts_down) {
    csts_ = (csts_ & ~nvme::kCstsShutdownMask) | nvme::kCstsShutdownOccurring;
    Quiesce((csts_ & ~nvme::kCstsShutdownMask) | nvme::kCstsShutdownComplete);
  }
}

void Controller::Enable() {
  ++quiesce_generation_;
  csts_ = nvme::kCstsReady;
  ready_.store(true, std::memory_order_release);
  Supervise();
}

void Controller::Quiesce(uint32_t csts_then) {
  ready_.store(false, std::memory_order_release);
  Supervise();
  uint32_t generation = ++quiesce_generation_;
  // The answer comes in the thread of the admin queue, if that still exists.
  control_plane_.DisconnectIoQueues(shared_from_this(), *reactor_, [this, csts_then, generation] {
    if (generation == quiesce_generation_) csts_ = csts_then;
  });
}

void Controller::NoteAdminCommand() { last_activity_ns_ = reactor_->now_ns(); }

void Controller::SetKeepAlive(uint32_t keep_alive_ms) {
  if (keep_alive_ms != 0) {
    uint64_t step = std::max(limits_.keep_alive_granularity_ms, 1u);
    uint64_t rounded = (keep_alive_ms + step - 1) / step * step;
    keep_alive_ms =
        static_cast<uint32_t>(std::clamp<uint64_t>(rounded, limits_.min_keep_alive_ms, UINT32_MAX));
  }
  keep_alive_ms_ = keep_alive_ms;
  if (reactor_ != nullptr) Supervise();
}

// Nanoseconds without activity after which the host is taken for gone; 0: never.
uint64_t Controller::TimeoutNs() const {
  uint64_t ms = kIdleAssociationMs;
  if (ready()) ms = keep_alive_ms_ == 0 && is_discovery() ? kDiscoveryIdleMs : keep_alive_ms_;
  return ms * 1'000'000;
}

void Controller::Supervise() {
  StopSupervision();
  last_activity_ns_ = reactor_->now_ns();
  if (uint64_t timeout = TimeoutNs(); timeout != 0) {
    timer_ = reactor_->AddTimer(std::chrono::nanoseconds(timeout), [this] { OnTimer(); });
  }
}

void Controller::StopSupervision() {
  if (timer_ != 0) reactor_->CancelTimer(timer_);
  timer_ = 0;
}

void Controller::OnTimer() {
  timer_ = 0;
  uint64_t now = reactor_->now_ns();
  if (traffic_.exchange(false, std::memory_order_relaxed)) last_activity_ns_ = now;
  uint64_t quiet = now - last_activity_ns_;
  uint64_t timeout = TimeoutNs();
  if (quiet < timeout) {
    timer_ = reactor_->AddTimer(std::chrono::nanoseconds(timeout - quiet), [this] { OnTimer(); });
    return;
  }
  spdlog::warn("{}: controller {} of host {}: nothing heard for {} ms, disconnecting",
               subsystem_->nqn, id(), host_nqn(), quiet / 1'000'000);
  csts_ |= nvme::kCstsFatal;
  auto disconnect = disconnect_admin_;  // DetachAdmin drops the member
  disconnect();
}

}  // namespace sma::target::nvmf
