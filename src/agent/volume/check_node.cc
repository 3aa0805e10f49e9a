// Whether a volume that was found comes from a node that its call names.

#include <fmt/format.h>

#include <algorithm>

#include "agent/volume/address.h"
#include "agent/volume/connection_names.h"
#include "agent/volume/connections.h"
#include "agent/volume/shared_names.h"

namespace sma::volume {

using base::Context;
using spdk::TransportAddress;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

namespace {

// How long services may take to attach what they list, before a volume that another one has
// attached is taken for theirs.
constexpr milliseconds kListTime{200};
constexpr milliseconds kListPause{20};

bool IsOneOf(const std::vector<std::string>& list, const std::string& text) {
  return std::find(list.begin(), list.end(), text) != list.end();
}

}  // namespace

// A node that the call does not name may show a volume of this UUID, too. The services that the
// volume names tell which subsystems they list by the controllers that they have attached; what
// they find attached already at the same address they pass over.
absl::Status Connections::CheckNode(const Context& context, const record::Volume& row,
                                    const spdk::Bdev& bdev) {
  const auto controller = bdev.is_nvme ? ControllerOfBdev(bdev.name) : std::nullopt;
  if (!row.params.nvmf().has_discovery() || !controller || !HasAgentsForm(*controller)) {
    return absl::OkStatus();
  }
  const SharedNames names = SharedNames::Parse(row.connection);
  const std::optional<std::string> service = ServiceOfController(*controller);
  if (service && IsOneOf(names.services, *service)) return absl::OkStatus();
  std::set<std::string> hosts;
  for (const nvmf::Address& endpoint : row.params.nvmf().discovery().discovery_endpoints()) {
    const TransportAddress address = ToTransportAddress(endpoint);
    const std::optional<std::string> serving = services_.FindServing(address);
    // One that the agent did not start names its controllers as it likes.
    if (!serving || !IsOneOf(names.services, *serving)) return absl::OkStatus();
    hosts.insert(address.traddr);
  }
  const auto until = steady_clock::now() + kListTime;
  while (true) {
    if (absl::Status status = shared_.LookAtControllers(context); !status.ok()) return status;
    std::set<std::string> nqns;
    shared_.controllers().ForEach(target_.generation(), [&](const spdk::Controller& other) {
      const std::optional<std::string> its = ServiceOfController(other.name);
      if (!its || !IsOneOf(names.services, *its)) return;
      for (const spdk::ControllerPath& path : other.paths) {
        nqns.insert(path.subnqn);
        hosts.insert(path.address.traddr);
      }
    });
    const auto now = steady_clock::now();
    if (nqns.empty() && now >= until) return absl::OkStatus();
    if (!nqns.empty()) return CheckPaths(row, *controller, nqns, hosts);
    if (absl::Status status = context.SleepUntil(now + kListPause); !status.ok()) return status;
  }
}

// FAILED_PRECONDITION: no path of the controller is to a subsystem of `nqns` or to one of `hosts`.
absl::Status Connections::CheckPaths(const record::Volume& row, const std::string& controller,
                                     const std::set<std::string>& nqns,
                                     const std::set<std::string>& hosts) {
  const std::optional<spdk::Controller> found =
      shared_.controllers().Find(target_.generation(), controller);
  if (!found || found->paths.empty()) return absl::OkStatus();
  for (const spdk::ControllerPath& path : found->paths) {
    if (nqns.contains(path.subnqn) || hosts.contains(path.address.traddr)) return absl::OkStatus();
  }
  const spdk::ControllerPath& path = found->paths.front();
  return absl::FailedPreconditionError(fmt::format(
      "volume {}: the target has it from {} port {}, {}, which the discovery services do not list",
      row.id.ToString(), path.address.traddr, path.address.trsvcid, path.subnqn));
}

}  // namespace sma::volume
