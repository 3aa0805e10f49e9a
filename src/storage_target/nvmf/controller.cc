// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvmf/controller.h"

#include <algorithm>

#include "base/peer_log.h"
#include "spdlog/spdlog.h"
#include "storage_target/nvmf/control_plane.h"
#include "storage_target/reactor/reactor.h"

namespace sma::storage_target::nvmf {
namespace {

using nvme::Property;
using nvme::Status;

constexpr uint32_t kVersion = nvme::MakeVersion(1, 4);
// How long a host may keep a controller that it has not enabled or that it has shut down.
constexpr uint64_t kIdleAssociationMs = 120'000;
// A discovery controller without keep-alive is kept as long as the host sends commands (NVMe over
// Fabrics §5.2.2).
constexpr uint64_t kDiscoveryIdleMs = 120'000;

uint32_t SupportedEvents(bool discovery) {
  return discovery ? nvme::kAecDiscoveryLogChange : nvme::kAecNamespaceAttributes;
}

}  // namespace

Controller::Controller(ControlPlane& control_plane,
                       std::shared_ptr<const SubsystemOptions> subsystem, Identity identity,
                       const TransportLimits& limits, uint32_t keep_alive_ms,
                       std::shared_ptr<HostConnections> host_connections)
    : control_plane_(control_plane),
      subsystem_(std::move(subsystem)),
      identity_(std::move(identity)),
      limits_(limits),
      host_connections_(std::move(host_connections)),
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
  last_activity_ns_ = timeout_ns_ = due_ns_ = 0;  // IsExpired returns true from now on
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
  // The callback runs in the admin queue's thread, if the admin queue still exists.
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

// Returns the time without activity, in nanoseconds, after which the host is considered dead; 0:
// never.
uint64_t Controller::TimeoutNs() const {
  uint64_t ms = kIdleAssociationMs;
  if (ready()) ms = keep_alive_ms_ == 0 && is_discovery() ? kDiscoveryIdleMs : keep_alive_ms_;
  return ms * 1'000'000;
}

void Controller::Supervise() {
  StopSupervision();
  last_activity_ns_ = reactor_->now_ns();
  if (uint64_t timeout_ns = TimeoutNs(); timeout_ns != 0) StartTimer(timeout_ns);
}

void Controller::StartTimer(uint64_t timeout_ns) {
  timeout_ns_ = timeout_ns;
  due_ns_ = last_activity_ns_ + timeout_ns;
  const uint64_t now_ns = reactor_->now_ns();
  const uint64_t after_ns = due_ns_ > now_ns ? due_ns_ - now_ns : 0;
  timer_ = reactor_->AddTimer(std::chrono::nanoseconds(after_ns), [this] { OnTimer(); });
}

// I/O since the timer was started counts as a command at the time when the timer is due.
bool Controller::IsOverdue(uint64_t now_ns) const {
  const uint64_t due_ns = due_ns_;
  const uint64_t last_ns =
      traffic_ ? std::max<uint64_t>(due_ns, last_activity_ns_) : last_activity_ns_.load();
  const uint64_t timeout_ns = timeout_ns_;
  // Otherwise the timer has been started again in the meantime.
  return due_ns == due_ns_ && now_ns >= last_ns && now_ns - last_ns >= timeout_ns;
}

void Controller::StopSupervision() {
  if (timer_ != 0) reactor_->CancelTimer(timer_);
  timer_ = 0;
  due_ns_ = UINT64_MAX;
}

void Controller::OnTimer() {
  timer_ = 0;
  const uint64_t now_ns = reactor_->now_ns();
  if (!IsOverdue(now_ns)) {
    const bool traffic = traffic_;
    if (traffic) last_activity_ns_ = std::max<uint64_t>(due_ns_, last_activity_ns_);
    StartTimer(timeout_ns_);
    if (traffic) traffic_ = false;  // after due_ns_ has changed, see IsOverdue
    return;
  }
  const uint64_t quiet = now_ns - last_activity_ns_;
  base::LogOfPeers().Log(spdlog::level::warn, host_nqn(),
                         "{}: controller {} of host {}: no command for {} ms, disconnecting",
                         subsystem_->nqn, id(), host_nqn(), quiet / 1'000'000);
  DisconnectHost();
}

void Controller::DisconnectHost() {
  csts_ |= nvme::kCstsFatal;
  auto disconnect = disconnect_admin_;  // DetachAdmin clears the member
  if (disconnect) disconnect();
}

void Controller::DisconnectIfUnaware(uint32_t nsid) {
  if (!async_events_.IsUnaware(nsid)) return;
  base::LogOfPeers().Log(spdlog::level::warn, host_nqn(),
                         "{}: controller {} of host {}: the host has not read that namespace {} "
                         "was removed, disconnecting",
                         subsystem_->nqn, id(), host_nqn(), nsid);
  DisconnectHost();
}

}  // namespace sma::storage_target::nvmf
