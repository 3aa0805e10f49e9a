// SPDX-License-Identifier: Apache-2.0

#include "agent/volume/missing.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/probe/nvme_connect.h"
#include "agent/volume/address.h"
#include "agent/volume/connection_names.h"
#include "agent/volume/probe.h"

namespace sma::volume {

using spdk::Controller;
using spdk::ControllerPath;

namespace {

bool IsUp(const Controller& controller) {
  return std::any_of(controller.paths.begin(), controller.paths.end(),
                     [](const ControllerPath& path) { return path.is_up(); });
}

absl::Status Missing(bool is_connected, const record::Volume& row, std::string_view why) {
  return absl::Status(is_connected ? absl::StatusCode::kNotFound : absl::StatusCode::kUnavailable,
                      fmt::format("volume {} is missing: {}", row.id.ToString(), why));
}

std::string NodeOf(const RemotePath& path) { return NodeName(path.address()); }

// Returns the first of `paths` that is up in a controller for which `matches` returns true.
std::optional<RemotePath> FindUp(const jsonrpc::Caller& target, const SharedConnections& shared,
                                 const std::set<RemotePath>& paths,
                                 const std::function<bool(const Controller&)>& matches) {
  std::optional<RemotePath> found;
  shared.controllers().ForEach(target.generation(), [&](const Controller& controller) {
    if (found || !matches(controller)) return;
    for (const ControllerPath& path : controller.paths) {
      const RemotePath known = RemotePath::Of(path.address, path.subnqn);
      if (path.is_up() && paths.contains(known)) found = known;
    }
  });
  return found;
}

// Returns a function that returns true for the controllers of the volume's connections.
std::function<bool(const Controller&)> IsControllerOfVolume(const record::Volume& row) {
  return [names = SharedNames::Parse(row.connection)](const Controller& controller) {
    const std::optional<std::string> service = ServiceOfController(controller.name);
    return Contains(names.controllers, controller.name) ||
           (service && Contains(names.services, *service));
  };
}

absl::Status HasNoNamespace(const record::Volume& row, const RemotePath& path) {
  return Missing(true, row,
                 fmt::format("subsystem {} at {} is connected and has no namespace with this UUID",
                             path.subnqn, NodeOf(path)));
}

// A subsystem of the same name at another address may be another node's.
absl::Status WhyDirectMissing(const jsonrpc::Caller& target, const SharedConnections& shared,
                              const record::Volume& row) {
  const nvmf::VolumeConnectionParameters& params = row.params.nvmf();
  std::set<RemotePath> paths;
  std::vector<std::string> addresses;
  for (const nvmf::Address& address : params.direct().addresses()) {
    paths.insert(RemotePath::Of(ToTransportAddress(address), params.subnqn()));
    addresses.push_back(NodeName(ToTransportAddress(address)));
  }
  auto any = [](const Controller&) { return true; };
  if (auto up = FindUp(target, shared, paths, any)) return HasNoNamespace(row, *up);
  return Missing(false, row,
                 fmt::format("subsystem {} at {} is being connected and has not answered yet",
                             params.subnqn(), fmt::join(addresses, ", ")));
}

/// What the agent knows about a discovery service.
struct Listed {
  bool any_up = false;           // a subsystem has a path that is up
  std::set<std::string> lost{};  // NQNs of subsystems without one
};

Listed ListedBy(const jsonrpc::Caller& target, const SharedConnections& shared,
                const std::string& service, const std::string& subnqn) {
  Listed listed;
  shared.controllers().ForEach(target.generation(), [&](const Controller& controller) {
    if (ServiceOfController(controller.name) != service || controller.paths.empty()) return;
    const std::string& nqn = controller.paths.front().subnqn;
    if (IsUp(controller)) {
      listed.any_up = true;
    } else if (subnqn.empty() || nqn == subnqn) {
      listed.lost.insert(nqn);
    }
  });
  return listed;
}

// Returns why the services have not found the volume, although no node is known to have answered
// that it does not have it.
std::string WhyNotListed(const jsonrpc::Caller& target, const SharedConnections& shared,
                         const DiscoveryServices& services, const record::Volume& row,
                         const std::set<RemotePath>& paths) {
  std::vector<std::string> reasons;
  for (const nvmf::Address& endpoint : row.params.nvmf().discovery().discovery_endpoints()) {
    const spdk::TransportAddress address = ToTransportAddress(endpoint);
    const std::string node = "discovery service " + NodeName(address);
    const auto serving = services.FindServing(address);
    const Listed listed =
        serving ? ListedBy(target, shared, *serving, row.params.nvmf().subnqn()) : Listed();
    if (!listed.lost.empty()) {
      reasons.push_back(
          fmt::format("{}: subsystem {} is not connected", node, *listed.lost.begin()));
    } else if (!listed.any_up) {
      reasons.push_back(node + " is being connected: no subsystem that it lists has answered yet");
    }
  }
  if (reasons.empty() && paths.empty()) {
    reasons.push_back("it has not been found since it was attached, and its subsystem is unknown");
  }
  std::vector<std::string> known;
  for (const RemotePath& path : paths) {
    known.push_back(fmt::format("{} at {}", path.subnqn, NodeOf(path)));
  }
  if (reasons.empty()) {
    reasons.push_back(
        fmt::format("subsystem {}, where it was found, is not connected", fmt::join(known, ", ")));
  }
  return fmt::to_string(fmt::join(reasons, "; "));
}

// The subsystems that a service has connected are not all that it lists: another node, whose
// subsystem the volume is in, may be down. The volume is gone only if each subsystem in which it
// was found is connected and does not have it: it may have moved from one to another.
absl::Status WhyDiscoveredMissing(const jsonrpc::Caller& target, const SharedConnections& shared,
                                  const DiscoveryServices& services, const record::Volume& row) {
  const std::set<RemotePath> paths = shared.KnownPathsOf(row.id);
  const std::set<RemotePath> open = OpenPathsOf(target, shared, row);
  if (open.empty()) {
    const auto up = FindUp(target, shared, paths, IsControllerOfVolume(row));
    if (up) return HasNoNamespace(row, *up);
  }
  return Missing(false, row, WhyNotListed(target, shared, services, row, open));
}

}  // namespace

absl::Status WhyMissing(const jsonrpc::Caller& target, const SharedConnections& shared,
                        const DiscoveryServices& services, const record::Volume& row) {
  if (row.params.has_iscsi()) {
    const iscsi::VolumeConnectionParameters& unit = row.params.iscsi();
    return Missing(false, row,
                   fmt::format("LUN {} of {} at {} is being connected and has not answered yet",
                               unit.lun(), unit.target_iqn(), unit.portal()));
  }
  if (row.params.nvmf().has_direct()) return WhyDirectMissing(target, shared, row);
  if (row.params.nvmf().has_discovery()) {
    return WhyDiscoveredMissing(target, shared, services, row);
  }
  return Missing(true, row, "the target has no bdev for it");
}

std::set<RemotePath> OpenPathsOf(const jsonrpc::Caller& target, const SharedConnections& shared,
                                 const record::Volume& row) {
  std::set<RemotePath> open = shared.KnownPathsOf(row.id);
  while (auto up = FindUp(target, shared, open, IsControllerOfVolume(row))) {
    std::erase_if(open, [&](const RemotePath& path) { return path.subnqn == up->subnqn; });
  }
  return open;
}

bool HasNoSubsystem(const base::Context& context, const std::string& hostnqn,
                    const std::set<RemotePath>& paths) {
  return !paths.empty() && std::all_of(paths.begin(), paths.end(), [&](const RemotePath& path) {
    return probe::ProbeNvmeConnect(path.traddr, path.trsvcid, path.subnqn, ProbeHost(hostnqn),
                                   ProbeEnd(context)) == probe::ConnectAnswer::kNoSubsystem;
  });
}

}  // namespace sma::volume
