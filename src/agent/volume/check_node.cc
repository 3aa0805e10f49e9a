// SPDX-License-Identifier: Apache-2.0

#include "agent/volume/check_node.h"

#include <fmt/format.h>

#include <algorithm>

#include "agent/spdk/bdev_iscsi.h"
#include "agent/volume/address.h"
#include "agent/volume/connection_names.h"
#include "agent/volume/probe.h"
#include "agent/volume/shared_names.h"

namespace sma::volume {

using base::Context;
using spdk::TransportAddress;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

namespace {

// How long the services may take to attach the subsystems that they list. After this time, a volume
// that another service attached is accepted.
constexpr milliseconds kListTime{200};
constexpr milliseconds kListPause{20};

// What the discovery services of a volume list, as far as they have attached it.
struct ServedPaths {
  std::set<std::string> nqns;
  std::set<std::string> hosts;  // also of the services themselves
  std::set<std::string> nodes;  // hosts with ports
};

// Returns FAILED_PRECONDITION if no path of the controller leads to a listed subsystem or host. An
// operator's controller is not known to have been attached from a list: its port must be listed,
// too.
absl::Status CheckPaths(const record::Volume& row, const std::optional<spdk::Controller>& found,
                        const ServedPaths& listed) {
  if (!found || found->paths.empty()) return absl::OkStatus();
  const bool is_agents = HasAgentsForm(found->name);
  for (const spdk::ControllerPath& path : found->paths) {
    const bool is_at = is_agents ? listed.hosts.contains(path.address.traddr)
                                 : listed.nodes.contains(NodeName(path.address));
    if (is_at || listed.nqns.contains(path.subnqn)) return absl::OkStatus();
  }
  const spdk::ControllerPath& path = found->paths.front();
  return absl::FailedPreconditionError(
      fmt::format("volume {}: the target found it at {} port {} in subsystem {}, which the "
                  "discovery services do not list",
                  row.id.ToString(), path.address.traddr, path.address.trsvcid, path.subnqn));
}

// Checks a volume that another connection has found, while the volume's own services have attached
// nothing: either they skipped a subsystem that was attached before, or their nodes do not answer,
// and another node has a namespace with the same UUID. Returns OK if a path leads to a discovery
// endpoint itself, or to the host of an endpoint that accepts connections; otherwise UNAVAILABLE.
absl::Status CheckUnlisted(const Context& context, const record::Volume& row,
                           const std::optional<spdk::Controller>& found) {
  std::string why;
  for (const nvmf::Address& endpoint : row.params.nvmf().discovery().discovery_endpoints()) {
    const TransportAddress address = ToTransportAddress(endpoint);
    bool is_there = false;
    for (const spdk::ControllerPath& path : found ? found->paths : decltype(found->paths)()) {
      if (path.is_up() && spdk::SameAddress(path.address, address)) return absl::OkStatus();
      is_there |= path.address.traddr == address.traddr;
    }
    const std::string unreachable = WhyUnreachable(context, address.traddr, address.trsvcid);
    if (is_there && unreachable.empty()) return absl::OkStatus();
    why += fmt::format("{}discovery service {}: {}", why.empty() ? "" : "; ", NodeName(address),
                       unreachable.empty() ? "has not listed it" : unreachable);
  }
  return absl::UnavailableError(fmt::format(
      "volume {}: the target has a bdev with this UUID, {}, which is not known to come from the "
      "requested storage node: {}",
      row.id.ToString(), found ? "of controller " + found->name : "of an unknown controller", why));
}

}  // namespace

// The names, aliases and UUIDs of all bdevs are one space of names on the target.
absl::Status CheckIdentity(const record::Volume& row, const spdk::Bdev& bdev) {
  const bool is_remote = row.params.has_nvmf() || row.params.has_iscsi();
  const bool is_its = row.params.has_iscsi() ? bdev.product_name == spdk::kIscsiProductName
                                             : bdev.is_nvme && bdev.uuid == row.id;
  if (!is_remote || is_its) return absl::OkStatus();
  return absl::AlreadyExistsError(
      fmt::format("volume {}: the target has bdev {} ({}) under this UUID, which does not come "
                  "from the volume's storage node",
                  row.id.ToString(), bdev.name, bdev.product_name));
}

// A node that the request does not name may also export a namespace with this UUID. The subsystems
// that the volume's services list are known from the controllers that these services have attached.
// A subsystem that another service attached earlier, at the same address, is not among them and is
// accepted because of its address.
absl::Status CheckNode(const jsonrpc::Caller& target, SharedConnections& shared,
                       const DiscoveryServices& services, const Context& context,
                       const record::Volume& row, const spdk::Bdev& bdev) {
  if (absl::Status status = CheckIdentity(row, bdev); !status.ok()) {
    return absl::FailedPreconditionError(status.message());
  }
  const auto controller = bdev.is_nvme ? ControllerOfBdev(bdev.name) : std::nullopt;
  if (!row.params.nvmf().has_discovery() || !controller) {
    return absl::OkStatus();
  }
  const SharedNames names = SharedNames::Parse(row.connection);
  const std::optional<std::string> service = ServiceOfController(*controller);
  if (service && Contains(names.services, *service)) return absl::OkStatus();
  ServedPaths listed;
  for (const nvmf::Address& endpoint : row.params.nvmf().discovery().discovery_endpoints()) {
    const TransportAddress address = ToTransportAddress(endpoint);
    const std::optional<std::string> serving = services.FindServing(address);
    // The controllers of a service that the agent did not start can have any name.
    if (!serving || !Contains(names.services, *serving)) return absl::OkStatus();
    listed.hosts.insert(address.traddr);
    listed.nodes.insert(NodeName(address));
  }
  const auto until = steady_clock::now() + kListTime;
  while (true) {
    if (absl::Status status = shared.RefreshControllers(context); !status.ok()) return status;
    shared.controllers().ForEach(target.generation(), [&](const spdk::Controller& other) {
      const std::optional<std::string> its = ServiceOfController(other.name);
      if (!its || !Contains(names.services, *its)) return;
      for (const spdk::ControllerPath& path : other.paths) {
        listed.nqns.insert(path.subnqn);
        listed.hosts.insert(path.address.traddr);
        listed.nodes.insert(NodeName(path.address));
      }
    });
    const auto now = steady_clock::now();
    if (listed.nqns.empty() && now >= until) {
      return CheckUnlisted(context, row,
                           shared.controllers().Find(target.generation(), *controller));
    }
    if (!listed.nqns.empty()) {
      return CheckPaths(row, shared.controllers().Find(target.generation(), *controller), listed);
    }
    if (absl::Status status = context.SleepUntil(now + kListPause); !status.ok()) return status;
  }
}

}  // namespace sma::volume
