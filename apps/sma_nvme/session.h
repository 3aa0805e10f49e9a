#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "target/bdev_modules/nvme/initiator/controller.h"
#include "target/bdev_modules/nvme/initiator/identity.h"
#include "target/reactor/reactor.h"

namespace sma::sma_nvme {

/// What every subcommand is told on the command line.
struct RemoteOptions {
  std::string traddr = "127.0.0.1";
  std::string trsvcid = "4420";
  std::string subnqn;
  std::string hostnqn;
  bool header_digest = false;
  bool data_digest = false;
  uint32_t timeout_seconds = 10;
};

/// A connected controller, driven by this thread.
class Session : private target::initiator::Controller::Owner {
 public:
  /// Connects and waits until the controller is ready.
  static absl::StatusOr<std::unique_ptr<Session>> Open(const RemoteOptions& options,
                                                       uint16_t io_queue_count);
  /// Shuts the controller down.
  ~Session() override;

  target::initiator::Controller& controller() { return *controller_; }

  /// Runs the controller (keep-alive, commands) until `done`; the status says why it ended early.
  absl::Status RunUntil(const std::function<bool()>& done);
  /// A turn of the same, for a loop that does other things.
  absl::Status RunBriefly();

  absl::StatusOr<std::vector<target::initiator::NamespaceInfo>> ListNamespaces();

  /// Connects an I/O queue and waits until it is ready.
  absl::StatusOr<std::unique_ptr<target::initiator::QueuePair>> OpenQueue(uint16_t queue_id,
                                                                          uint16_t entries);

 private:
  explicit Session(std::chrono::seconds timeout);
  void OnControllerReady(target::initiator::Controller& controller) override;
  void OnControllerClosed(target::initiator::Controller& controller,
                          const std::string& reason) override;

  const std::chrono::seconds timeout_;
  std::unique_ptr<target::Reactor> reactor_;
  std::unique_ptr<target::initiator::Controller> controller_;
  bool ready_ = false;
  std::optional<std::string> closed_;
};

/// The namespace that `text` names by UUID or NSID; the only one for an empty text.
absl::StatusOr<target::initiator::NamespaceInfo> ChooseNamespace(
    const std::vector<target::initiator::NamespaceInfo>& namespaces, const std::string& text);

}  // namespace sma::sma_nvme
