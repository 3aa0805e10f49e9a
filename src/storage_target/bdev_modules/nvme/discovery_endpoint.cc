// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/nvme/discovery_endpoint.h"

#include <spdlog/spdlog.h>

#include <utility>

#include "storage_target/nvme/identify.h"

namespace sma::storage_target::bdev_nvme {

using initiator::Controller;

namespace {

// The interval at which the log of a controller that does not report changes is read.
constexpr std::chrono::seconds kReadInterval{30};

}  // namespace

DiscoveryEndpoint::DiscoveryEndpoint(Reactor& reactor, const Controller::Options& options,
                                     std::chrono::milliseconds longest_pause,
                                     std::function<void()> on_change)
    : reactor_(reactor),
      options_(options),
      on_change_(std::move(on_change)),
      back_off_(longest_pause) {}

DiscoveryEndpoint::~DiscoveryEndpoint() { reactor_.CancelTimer(timer_); }

void DiscoveryEndpoint::Start() {
  controller_ =
      std::make_unique<Controller>(reactor_, options_, static_cast<Controller::Owner&>(*this));
  controller_->Start();
}

void DiscoveryEndpoint::Shutdown(std::function<void()> done) {
  reactor_.CancelTimer(std::exchange(timer_, 0));
  reader_.reset();
  if (!controller_) return reactor_.Post(std::move(done));
  controller_->Shutdown(std::move(done));
}

void DiscoveryEndpoint::OnControllerReady(Controller& /*controller*/) {
  ready_since_ns_ = reactor_.now_ns();
  Read();
}

void DiscoveryEndpoint::OnDiscoveryLogChanged(Controller& /*controller*/) {
  if (reader_) {
    read_again_ = true;
  } else {
    Read();
  }
}

void DiscoveryEndpoint::Read() {
  reactor_.CancelTimer(std::exchange(timer_, 0));
  read_again_ = false;
  reader_ = std::make_unique<initiator::DiscoveryLogReader>(
      *controller_, [this](std::optional<Log> log) { OnRead(std::move(log)); });
}

void DiscoveryEndpoint::OnRead(std::optional<Log> log) {
  reader_.reset();
  if (!log) return controller_->Reset("the discovery log could not be read");
  if (read_again_) return Read();
  if ((controller_->info().oaes & nvme::kOaesDiscoveryLogChange) == 0) {
    timer_ = reactor_.AddTimer(kReadInterval, [this] {
      timer_ = 0;
      if (!reader_) Read();
    });
  }
  log_ = std::move(log);
  settled_ = true;
  on_change_();
}

void DiscoveryEndpoint::OnControllerClosed(Controller& /*controller*/, const std::string& reason) {
  spdlog::info("nvme: discovery at {}: {}", address().ToString(), reason);
  reader_.reset();
  controller_.reset();
  if (ready_since_ns_ != 0) {
    back_off_.ConnectionLost(reactor_.now_ns() - std::exchange(ready_since_ns_, 0));
  }
  reactor_.CancelTimer(std::exchange(timer_, 0));
  timer_ = reactor_.AddTimer(back_off_.Next(), [this] {
    timer_ = 0;
    Start();
  });
  settled_ = true;
  on_change_();
}

}  // namespace sma::storage_target::bdev_nvme
