#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "target/bdev_modules/nvme/initiator/controller.h"
#include "target/bdev_modules/nvme/initiator/discovery_log.h"
#include "target/bdev_modules/nvme/options.h"
#include "target/reactor/reactor.h"

namespace sma::target::bdev_nvme {

/// A lasting connection to one discovery controller, which keeps its log up to date; connected
/// again, with pauses, whenever it is lost. In the control reactor.
class DiscoveryEndpoint : private initiator::Controller::Owner {
 public:
  using Log = std::vector<initiator::DiscoveryEntry>;

  /// `on_change` is called whenever the log has been read or the connection was lost; it must not
  /// destroy the endpoint.
  DiscoveryEndpoint(Reactor& reactor, const initiator::Controller::Options& options,
                    std::chrono::milliseconds longest_pause, std::function<void()> on_change);
  ~DiscoveryEndpoint() override;

  void Start();
  /// Says good-bye to the controller; `done` may destroy the endpoint.
  void Shutdown(std::function<void()> done);

  const initiator::Address& address() const { return options_.association.address; }
  /// As it was read last; nullopt before the first time.
  const std::optional<Log>& log() const { return log_; }
  /// The log was read once, or could not be.
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
  Reactor::TimerId timer_ =
      0;  // connected: the next look at a log that tells of no changes; else: the next attempt
};

}  // namespace sma::target::bdev_nvme
