// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage_target/bdev_modules/nvme/initiator/controller.h"
#include "storage_target/bdev_modules/nvme/initiator/identity.h"
#include "storage_target/reactor/reactor.h"

namespace sma::sma_nvme {

/// The command-line options of every subcommand.
struct RemoteOptions {
  std::string traddr = "127.0.0.1";
  std::string trsvcid = "4420";
  std::string subnqn;
  std::string hostnqn;
  bool header_digest = false;
  bool data_digest = false;
  uint32_t timeout_seconds = 10;
};

/// A connected controller. Owned by the calling thread, which polls it.
class Session : private storage_target::initiator::Controller::Owner {
 public:
  /// Connects and waits until the controller is ready.
  static absl::StatusOr<std::unique_ptr<Session>> Open(const RemoteOptions& options,
                                                       uint16_t io_queue_count);
  /// Shuts the controller down.
  ~Session() override;

  storage_target::initiator::Controller& controller() { return *controller_; }

  /// Runs the controller (keep-alive, commands) until `done` returns true; returns an error if the
  /// controller fails before that.
  absl::Status RunUntil(const std::function<bool()>& done);
  /// Runs the controller once, for a loop that also does other work.
  absl::Status RunBriefly();

  absl::StatusOr<std::vector<storage_target::initiator::NamespaceInfo>> ListNamespaces();

  /// Connects an I/O queue and waits until it is ready.
  absl::StatusOr<std::unique_ptr<storage_target::initiator::QueuePair>> OpenQueue(uint16_t queue_id,
                                                                                  uint16_t entries);

 private:
  explicit Session(std::chrono::seconds timeout);
  void OnControllerReady(storage_target::initiator::Controller& controller) override;
  void OnControllerClosed(storage_target::initiator::Controller& controller,
                          const std::string& reason) override;

  const std::chrono::seconds timeout_;
  std::unique_ptr<storage_target::Reactor> reactor_;
  std::unique_ptr<storage_target::initiator::Controller> controller_;
  bool ready_ = false;
  std::optional<std::string> closed_;
};

/// Returns the namespace whose UUID or NSID is `text`, or the only namespace if `text` is empty.
absl::StatusOr<storage_target::initiator::NamespaceInfo> ChooseNamespace(
    const std::vector<storage_target::initiator::NamespaceInfo>& namespaces,
    const std::string& text);

}  // namespace sma::sma_nvme
