#pragma once

#include <functional>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "target/nvmf/associations.h"
#include "target/nvmf/earlier_associations.h"
#include "target/nvmf/namespaces.h"
#include "target/nvmf/options.h"
#include "target/nvmf/transport.h"

namespace sma::target::nvmf {

/// An NVM subsystem or the discovery subsystem: who may connect, where, and what is there. The
/// control reactor only. Errors are positive errno values.
class Subsystem {
 public:
  struct Listener {
    TransportAddress address;
    Transport* transport;
    uint16_t port_id;
  };
  /// Told when what discovery log pages say of this subsystem has changed.
  using OnDiscoveryChange = std::function<void()>;

  Subsystem(bdev::Registry& registry, SubsystemOptions options,
            OnDiscoveryChange on_discovery_change);

  const SubsystemOptions& options() const { return *options_; }

  bool allow_any_host() const { return allow_any_host_; }
  void set_allow_any_host(bool allow);
  /// The host NQNs that may connect, the last added first.
  const std::list<std::string>& hosts() const { return hosts_; }
  bool IsHostAllowed(std::string_view host_nqn) const;
  /// EINVAL: not an NQN; EEXIST: it is in the list.
  int AddHost(const std::string& host_nqn);
  /// ENOENT: it is not in the list. The host's controllers are disconnected unless any host may
  /// connect; `done` runs when they are gone.
  int RemoveHost(const std::string& host_nqn, std::function<void()> done);

  /// The last added first.
  const std::list<Listener>& listeners() const { return listeners_; }
  const Listener* FindListener(const TransportAddress& address) const;
  /// EEXIST: there is one at this address; else what Transport::Listen says.
  int AddListener(Transport& transport, const TransportAddress& address);
  /// ENOENT: there is none. The controllers that came through it are disconnected; `done` runs when
  /// they are gone.
  int RemoveListener(const TransportAddress& address, std::function<void()> done);

  Namespaces& namespaces() { return namespaces_; }
  const Namespaces& namespaces() const { return namespaces_; }
  Associations& associations() { return associations_; }
  const Associations& associations() const { return associations_; }

  /// Connects a queue pair; the fields that do not depend on the subsystem have been checked.
  /// `done` gets the result, perhaps later: see ControlPlane::Connect.
  void Connect(QueuePair& queue_pair, const ConnectRequest& request, ConnectDone done);

  /// Stops listening, disconnects all hosts, removes all namespaces; `done` runs when nothing is
  /// left, and may destroy the subsystem.
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
};

}  // namespace sma::target::nvmf
