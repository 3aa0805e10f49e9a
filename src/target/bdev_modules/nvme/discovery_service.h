#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "target/bdev_modules/nvme/discovery_endpoint.h"
#include "target/bdev_modules/nvme/initiator/discovery_log.h"
#include "target/bdev_modules/nvme/options.h"
#include "target/reactor/reactor.h"

namespace sma::target::bdev_nvme {

class NvmeModule;

/// Attaches every NVMe/TCP subsystem that a discovery service and those that it refers to name, and
/// detaches those that they no longer name. In the control reactor.
class DiscoveryService {
 public:
  struct Options {
    std::string name;
    initiator::Address address;
    std::string hostnqn;  // empty: this machine's
    bool wait_for_attach = false;
    std::chrono::milliseconds attach_timeout{0};  // with wait_for_attach; 0: none
    std::optional<ReconnectOptions> reconnect;
  };

  /// `on_timeout`: the service was not attached in time and should be stopped.
  DiscoveryService(NvmeModule& module, const Options& options, std::function<void()> on_timeout);
  ~DiscoveryService();

  /// `done` as NvmeModule::StartDiscovery says.
  void Start(std::function<void(int error)> done);
  /// Detaches what it has attached, and closes its connections; then `done`, which may destroy it.
  void Stop(std::function<void()> done);
  bool stopping() const { return stopping_; }

  const Options& options() const { return options_; }
  /// Other addresses of this discovery service and of those that it refers to; its own before it
  /// was ever connected.
  std::vector<initiator::DiscoveryEntry> referrals() const;
  /// Whether a service for `address` would be this one.
  bool Serves(const initiator::Address& address) const;

  /// Whether the subsystem of this name is there because of this service.
  bool HasAttached(const std::string& subsystem) const;

  /// A path is gone from the module. `by_request`: and is not to come back while the log stays as
  /// it is.
  void OnPathGone(bool by_request);

 private:
  struct Attachment {
    enum class State : uint8_t {
      kAttaching,
      kAttached,
      kElsewhere,  // somebody else has attached the same path
      kWaiting,    // for the next attempt
      kReleased,   // detached by request
    };
    State state = State::kWaiting;
    std::string subsystem;  // its name
    BackOff back_off{std::chrono::milliseconds(5000)};
    Reactor::TimerId timer = 0;
  };
  using Attachments = std::map<initiator::DiscoveryEntry, Attachment>;

  void AddEndpoint(const initiator::Address& address);
  DiscoveryEndpoint* FindEndpoint(const initiator::Address& address) const;
  void OnEndpointChange();
  void UpdateEndpoints();
  std::vector<initiator::DiscoveryEntry> WantedEntries() const;
  void UpdateAttachments();
  void Attach(const initiator::DiscoveryEntry& entry);
  void OnAttached(const initiator::DiscoveryEntry& entry, const std::string& subsystem, int error);
  void RetryLater(const initiator::DiscoveryEntry& entry);
  /// Forgets the attachment, and detaches what is its own.
  void Release(const initiator::DiscoveryEntry& entry, std::function<void()> done);
  std::string NameFor(const std::string& subnqn);
  void AnswerWhenAttached();
  void Answer(int error);

  NvmeModule& module_;
  Reactor& reactor_;
  const Options options_;
  const std::function<void()> on_timeout_;
  std::function<void(int error)> on_started_;
  Reactor::TimerId start_timer_ = 0;
  bool stopping_ = false;
  std::vector<std::unique_ptr<DiscoveryEndpoint>> endpoints_;  // the first is the service's own
  Attachments attachments_;
  std::map<std::string, std::string> names_;  // of subsystems, by NQN
  int next_number_ = 0;
  // Expires with the service: what is answered later is dropped.
  std::shared_ptr<DiscoveryService*> self_ = std::make_shared<DiscoveryService*>(this);
};

}  // namespace sma::target::bdev_nvme
