// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "storage_target/bdev_modules/nvme/initiator/controller.h"
#include "storage_target/bdev_modules/nvme/initiator/discovery_log.h"
#include "storage_target/bdev_modules/nvme/options.h"
#include "storage_target/reactor/reactor.h"

namespace sma::storage_target::bdev_nvme {

/// A persistent connection to one discovery controller that keeps its log up to date. Reconnects
/// with pauses in between. Used only on the control reactor.
class DiscoveryEndpoint : private initiator::Controller::Owner {
 public:
  using Log = std::vector<initiator::DiscoveryEntry>;

  /// `on_change` is called each time the log has been read or the connection has been lost; it must
  /// not destroy the endpoint.
  DiscoveryEndpoint(Reactor& reactor, const initiator::Controller::Options& options,
                    std::chrono::milliseconds longest_pause, std::function<void()> on_change);
  ~DiscoveryEndpoint() override;

  void Start();
  /// Shuts the controller down; `done` may destroy the endpoint.
  void Shutdown(std::function<void()> done);

  const initiator::Address& address() const { return options_.association.address; }
  /// Returns the log as it was last read; nullopt before the first time.
  const std::optional<Log>& log() const { return log_; }
  /// Returns true if the first attempt to read the log has succeeded or failed.
  bool settled() const { return settled_; }

 private:
  void OnControllerReady(initiator::Controller& controller) override;
  void OnControllerClosed(initiator::Controller& controller, const std::string& reason) override;
  void OnDiscoveryLogChanged(initiator::Controller& controller) override;

  void Read();
  void OnRead(std::optional<Log> log);

  Reactor& reactor_;
  const initiator::Controller::Options options_;
  const std::function<void()> on_change_;
  BackOff back_off_;
  std::unique_ptr<initiator::Controller> controller_;
  std::unique_ptr<initiator::DiscoveryLogReader> reader_;
  uint64_t ready_since_ns_ = 0;  // 0: not connected
  bool read_again_ = false;
  std::optional<Log> log_;
  bool settled_ = false;
  // While connected, the next read of a log without change reports; otherwise the next attempt to
  // connect.
  Reactor::TimerId timer_ = 0;
};

}  // namespace sma::storage_target::bdev_nvme
