// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "storage_target/bdev_modules/nvme/discovery_endpoint.h"
#include "storage_target/bdev_modules/nvme/initiator/discovery_log.h"
#include "storage_target/bdev_modules/nvme/options.h"
#include "storage_target/reactor/reactor.h"

namespace sma::storage_target::bdev_nvme {

class NvmeModule;

/// Attaches every NVMe/TCP subsystem listed by a discovery service and by the services to which it
/// refers, and detaches those that are no longer listed. Used only on the control reactor.
class DiscoveryService {
 public:
  struct Options {
    std::string name;
    initiator::Address address;
    std::string hostnqn;  // empty: this host's default
    bool wait_for_attach = false;
    std::chrono::milliseconds attach_timeout{0};  // with wait_for_attach; 0: none
    std::optional<ReconnectOptions> reconnect;
  };

  /// `on_timeout` is called if the attach times out; the service should then be stopped.
  DiscoveryService(NvmeModule& module, const Options& options, std::function<void()> on_timeout);
  ~DiscoveryService();

  /// Starts the service. `done` is called as described for NvmeModule::StartDiscovery.
  void Start(std::function<void(int error)> done);
  /// Detaches what this service has attached and closes its connections; then calls `done`, which
  /// may destroy the service.
  void Stop(std::function<void()> done);
  bool stopping() const { return stopping_; }

  const Options& options() const { return options_; }
  /// Returns other addresses of this discovery service and of those to which it refers; before the
  /// first connection, returns its own address.
  std::vector<initiator::DiscoveryEntry> referrals() const;
  /// Returns true if a service for `address` would be the same as this one.
  bool Serves(const initiator::Address& address) const;

  /// Returns true if this service has attached the subsystem with this name.
  bool HasAttached(const std::string& subsystem) const;

  /// Called when a path to the subsystem `subnqn` has been removed from the module. If `by_request`
  /// is set, it must not be attached again until the log changes. Takes time proportional to the
  /// number of attachments, since many paths may be removed together.
  void OnPathGone(const std::string& subnqn, bool by_request);

 private:
  struct Attachment {
    enum class State : uint8_t {
      kAttaching,
      kAttached,
      kElsewhere,  // the same path was attached by another user of the module
      kWaiting,    // waits for the next attempt
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
  /// Removes the attachment from the list, and detaches the subsystem if this service has attached
  /// it.
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
  std::map<std::string, std::string> names_;  // names of the subsystems, by NQN
  int next_number_ = 0;
  // Expires with the service: later completions are ignored.
  std::shared_ptr<DiscoveryService*> self_ = std::make_shared<DiscoveryService*>(this);
};

}  // namespace sma::storage_target::bdev_nvme
