// SPDX-License-Identifier: Apache-2.0

#include "agent/volume/discovery_nodes.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "agent/volume/address.h"
#include "agent/volume/connection_names.h"

namespace sma::volume {

using base::Context;
using spdk::TransportAddress;

// Returns true if a controller at the node, or one attached by a service that serves the address,
// has a working path.
bool DiscoveryNodes::IsUp(const TransportAddress& address) const {
  const std::optional<std::string> serving = services_.FindServing(address);
  auto is_up = [&](const spdk::Controller& controller) {
    const bool is_of_service = serving && ServiceOfController(controller.name) == serving;
    return std::any_of(controller.paths.begin(), controller.paths.end(), [&](const auto& path) {
      return path.is_up() && (is_of_service || path.address.traddr == address.traddr);
    });
  };
  return connections_.controllers().FindIf(target_.generation(), is_up).has_value();
}

absl::StatusOr<std::vector<RemoteNodes::Visit>> DiscoveryNodes::Begin(
    const Context& context, const VolumeParameters& params) {
  std::vector<RemoteNodes::Visit> visits;
  absl::Status first;
  bool has_looked = false;
  for (const nvmf::Address& endpoint : params.nvmf().discovery().discovery_endpoints()) {
    const TransportAddress address = ToTransportAddress(endpoint);
    const std::string node = NodeName(address);
    absl::StatusOr<RemoteNodes::Visit> visit = nodes_.BeginVisit(node);
    if (!visit.ok()) {
      first.Update(visit.status());
      // The node may answer again by now, which is visible from the paths of other volumes'
      // controllers.
      if (!has_looked && !connections_.RefreshControllers(context).ok()) continue;
      has_looked = true;
      if (!IsUp(address)) continue;
      nodes_.Report(node, absl::OkStatus());
      visit = nodes_.BeginVisit(node);
    }
    if (visit.ok()) visits.push_back(*std::move(visit));
  }
  if (visits.empty() && !first.ok()) return first;
  return visits;
}

void DiscoveryNodes::NoteFound(const VolumeParameters& params) {
  const auto& endpoints = params.nvmf().discovery().discovery_endpoints();
  // With several endpoints, it is not known which one led to the volume.
  if (endpoints.size() != 1) return;
  nodes_.Report(NodeName(ToTransportAddress(endpoints[0])), absl::OkStatus());
}

void DiscoveryNodes::NoteNotFound(const TransportAddress& address, const std::string& why) {
  absl::Status status;
  if (!IsUp(address)) {
    status = absl::DeadlineExceededError(why.empty() ? "the target could not read its discovery log"
                                                     : why);
  }
  nodes_.Report(NodeName(address), status);
}

}  // namespace sma::volume
