// SPDX-License-Identifier: Apache-2.0

// Initializes a controller, step by step (NVMe Base 2.0 §3.5.2, "Message-based Controller
// Initialization").

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "storage_target/bdev_modules/nvme/initiator/controller.h"

namespace sma::storage_target::initiator {
namespace {

constexpr uint16_t kAdminEntries = 64;  // sufficient for many concurrent Identify commands
constexpr std::chrono::milliseconds kEnablePollInterval{10};
constexpr uint64_t kNsPer500Ms = 500'000'000;

}  // namespace

void Controller::Start() {
  state_ = State::kConnecting;
  admin_ = std::make_unique<ReactorQueuePair>(
      reactor_,
      QueuePair::Options{.association = options_.association,
                         .entries = kAdminEntries,
                         .keep_alive_ms = options_.keep_alive_ms,
                         .ack_timeout_ms = options_.ack_timeout_ms},
      ReactorQueuePair::Timeouts{.connect = options_.connect_timeout,
                                 .command = options_.admin_timeout},
      static_cast<ReactorQueuePair::Owner&>(*this));
  admin_->Start();
}

void Controller::OnQueueReady(ReactorQueuePair& /*queue*/) {
  state_ = State::kStarting;
  ReadCapabilities();
}

void Controller::ReadCapabilities() {
  GetProperty(nvme::Property::kCap, /*eight_bytes=*/true, [this](uint64_t cap) {
    cap_ = cap;
    ReadVersion();
  });
}

void Controller::ReadVersion() {
  GetProperty(nvme::Property::kVs, /*eight_bytes=*/false, [this](uint64_t version) {
    version_ = static_cast<uint32_t>(version);
    Enable();
  });
}

void Controller::Enable() {
  cc_ = nvme::kCcEnable | nvme::kSqEntryShift << nvme::kCcIosqesShift |
        nvme::kCqEntryShift << nvme::kCcIocqesShift;
  SetProperty(nvme::Property::kCc, cc_, [this](const Result& result) {
    if (!result.ok()) return Fail("cannot enable the controller");
    uint64_t timeout_ns = (uint64_t{nvme::CapTimeout500Ms(cap_)} + 1) * kNsPer500Ms;
    WaitUntilEnabled(reactor_.now_ns() + timeout_ns);
  });
}

void Controller::WaitUntilEnabled(uint64_t deadline_ns) {
  GetProperty(nvme::Property::kCsts, /*eight_bytes=*/false, [this, deadline_ns](uint64_t csts) {
    if ((csts & nvme::kCstsFatal) != 0) return Fail("the controller reports a fatal error");
    if ((csts & nvme::kCstsReady) != 0) return IdentifyItself();
    if (reactor_.now_ns() >= deadline_ns) return Fail("the controller does not become ready");
    timer_ = reactor_.AddTimer(kEnablePollInterval, [this, deadline_ns] {
      timer_ = 0;
      WaitUntilEnabled(deadline_ns);
    });
  });
}

void Controller::IdentifyItself() {
  Identify(nvme::Cns::kController, 0, [this](const Result& result) {
    if (!result.ok()) return Fail("cannot identify the controller");
    nvme::IdentifyController data;
    std::memcpy(&data, result.data.data(), sizeof data);
    info_ = ParseController(data, cap_, version_);
    if (options_.association.subnqn == nvme::kDiscoveryNqn) {
      // Controllers before NVMe 1.4 do not report their type.
      info_.type = nvme::ControllerType::kDiscovery;
    }
    if (is_discovery()) return ConfigureEvents();
    SetQueueCount();
  });
}

void Controller::SetQueueCount() {
  uint32_t count = options_.io_queue_count - 1u;  // 0's based, submission and completion queues
  SetFeature(nvme::Feature::kNumberOfQueues, count << 16 | count, [this](const Result& result) {
    if (!result.ok()) return Fail("cannot set the number of queues");
    uint32_t submission = (result.completion.dw0 & 0xffff) + 1;
    uint32_t completion = (result.completion.dw0 >> 16) + 1;
    io_queue_count_ = static_cast<uint16_t>(
        std::min({submission, completion, uint32_t{options_.io_queue_count}}));
    IdentifyLimits();
  });
}

// Controllers before NVMe 2.0 do not support this command.
void Controller::IdentifyLimits() {
  Identify(nvme::Cns::kCommandSetController, 0, [this](const Result& result) {
    if (result.ok()) {
      nvme::NvmIdentifyController data;
      std::memcpy(&data, result.data.data(), sizeof data);
      ApplyNvmLimits(data, cap_, info_);
    }
    ReadKeepAlive();
  });
}

// The controller may have rounded the requested time up, or raised it to its minimum.
void Controller::ReadKeepAlive() {
  if (options_.keep_alive_ms == 0) return SetHostBehavior();
  nvme::Command command;
  command.opcode = static_cast<uint8_t>(nvme::AdminOpcode::kGetFeatures);
  command.cdw10 = static_cast<uint32_t>(nvme::Feature::kKeepAliveTimer);
  Execute(command, 0, [this](const Result& result) {
    if (result.ok()) granted_keep_alive_ms_ = result.completion.dw0;
    SetHostBehavior();
  });
}

// A controller uses retry delays only if the host has enabled them (NVMe Base 2.0 §5.27.1.18).
void Controller::SetHostBehavior() {
  constexpr size_t kHostBehaviorSize = 512;
  constexpr std::byte kAdvancedRetry{1};  // ACRE, byte 0
  const auto& delays = info_.retry_delays;
  bool has_delays = std::any_of(delays.begin(), delays.end(),
                                [](std::chrono::milliseconds delay) { return delay.count() > 0; });
  if (!has_delays) return ConfigureEvents();
  nvme::Command command;
  command.opcode = static_cast<uint8_t>(nvme::AdminOpcode::kSetFeatures);
  command.cdw10 = static_cast<uint32_t>(nvme::Feature::kHostBehaviorSupport);
  std::vector<std::byte> data(kHostBehaviorSize);
  data[0] = kAdvancedRetry;
  // If the command is rejected, the controller does not use such delays.
  ExecuteWith(command, std::move(data), [this](const Result&) { ConfigureEvents(); });
}

void Controller::ConfigureEvents() {
  uint32_t wanted = is_discovery() ? nvme::kAecDiscoveryLogChange
                                   : nvme::kAecNamespaceAttributes | nvme::kAecAnaChange;
  uint32_t events = info_.oaes & wanted;  // the bits of OAES and of the feature are the same
  if (events == 0 || options_.keep_alive_ms == 0) return BecomeReady();
  SetFeature(nvme::Feature::kAsyncEventConfig, events, [this](const Result& result) {
    if (!result.ok()) return BecomeReady();  // without events
    AwaitEvent();
    BecomeReady();
  });
}

void Controller::BecomeReady() {
  state_ = State::kReady;
  if (options_.keep_alive_ms > 0) KeepAlive();
  owner_.OnControllerReady(*this);
}

}  // namespace sma::storage_target::initiator
