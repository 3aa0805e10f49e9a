// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "storage_target/nvmf/associations.h"
#include "storage_target/nvmf/earlier_associations.h"
#include "storage_target/nvmf/health_cache.h"
#include "storage_target/nvmf/namespaces.h"
#include "storage_target/nvmf/options.h"
#include "storage_target/nvmf/transport.h"

namespace sma::storage_target::nvmf {

/// An NVM subsystem or the discovery subsystem: its allowed hosts, listeners, controllers and
/// namespaces. Used only on the control reactor. Errors are positive errno values.
class Subsystem {
 public:
  struct Listener {
    TransportAddress address;
    Transport* transport;
    uint16_t port_id;
  };
  /// Called when the entries of this subsystem in discovery log pages have changed.
  using OnDiscoveryChange = std::function<void()>;

  Subsystem(bdev::Registry& registry, SubsystemOptions options,
            OnDiscoveryChange on_discovery_change);

  const SubsystemOptions& options() const { return *options_; }

  bool allow_any_host() const { return allow_any_host_; }
  void set_allow_any_host(bool allow);
  /// Returns the NQNs of the hosts that may connect, the most recently added first.
  const std::list<std::string>& hosts() const { return hosts_; }
  bool IsHostAllowed(std::string_view host_nqn) const;
  /// Adds a host. Errors: EINVAL if it is not a valid NQN; EEXIST if it is already in the list.
  int AddHost(const std::string& host_nqn);
  /// Removes a host. Returns ENOENT if it is not in the list. Disconnects the host's controllers,
  /// unless any host may connect; calls `done` when they are removed.
  int RemoveHost(const std::string& host_nqn, std::function<void()> done);

  /// Returns the listeners, the most recently added first.
  const std::list<Listener>& listeners() const { return listeners_; }
  const Listener* FindListener(const TransportAddress& address) const;
  /// Adds a listener. Errors: EEXIST if there is already a listener at this address; otherwise
  /// those of Transport::Listen.
  int AddListener(Transport& transport, const TransportAddress& address);
  /// Removes a listener. Returns ENOENT if there is none. Disconnects the controllers that
  /// connected through it; calls `done` when they are removed.
  int RemoveListener(const TransportAddress& address, std::function<void()> done);

  Namespaces& namespaces() { return namespaces_; }
  const Namespaces& namespaces() const { return namespaces_; }
  Associations& associations() { return associations_; }
  const Associations& associations() const { return associations_; }
  const EarlierAssociations& earlier_associations() const { return earlier_associations_; }
  /// Returns the totals of the namespaces for the SMART log page, which may be some time old;
  /// Health::uptime_s is 0. Takes at most 1% of the time, however often it is called.
  const Health& health();

  /// Connects a queue pair. The caller has checked the fields that do not depend on the subsystem.
  /// Calls `done` with the result, possibly later; see ControlPlane::Connect.
  void Connect(QueuePair& queue_pair, const ConnectRequest& request, ConnectDone done);
  /// See ControlPlane::AwaitLateIo.
  void AwaitLateIo(QueuePair& queue_pair, const std::shared_ptr<Controller>& controller,
                   uint16_t queue_id, std::chrono::milliseconds timeout);

  /// Stops listening, disconnects all hosts and removes all namespaces; then calls `done`, which
  /// may destroy the subsystem.
  void Shutdown(std::function<void()> done);

 private:
  Namespaces::Events NamespaceEvents(Reactor& control);
  bool MayConnect(const QueuePair& queue_pair, const ConnectRequest& request) const;
  ConnectResult AddQueuePair(QueuePair& queue_pair, const ConnectRequest& request);

  const std::shared_ptr<const SubsystemOptions> options_;
  const OnDiscoveryChange on_discovery_change_;
  bool allow_any_host_;
  std::list<std::string> hosts_;
  std::list<Listener> listeners_;
  Associations associations_;
  EarlierAssociations earlier_associations_;
  Namespaces namespaces_;
  HealthCache health_;
};

}  // namespace sma::storage_target::nvmf
