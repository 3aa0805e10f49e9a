// SPDX-License-Identifier: Apache-2.0

#include "agent/volume/discovery_connections.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "agent/spdk/bdev.h"
#include "agent/volume/address.h"
#include "agent/volume/check_node.h"
#include "agent/volume/connection_names.h"
#include "agent/volume/probe.h"

namespace sma::volume {

using base::Context;
using base::Uuid;
using spdk::TransportAddress;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::steady_clock;

namespace {

// How long a started service may take to read its log with the referrals.
constexpr milliseconds kLogTime{1000};
constexpr milliseconds kLogPause{20};

}  // namespace

DiscoveryConnections::DiscoveryConnections(jsonrpc::Caller& target, record::Record& record,
                                           SharedConnections& shared, RemoteNodes& nodes)
    : target_(target),
      shared_(shared),
      services_(target, shared),
      nodes_(target, shared, services_, nodes) {
  std::vector<record::Volume> rows = record.Volumes();
  std::stable_sort(rows.begin(), rows.end(),
                   [](const auto& a, const auto& b) { return a.created < b.created; });
  for (const record::Volume& row : rows) {
    for (const std::string& name : SharedNames::Parse(row.connection).services) {
      services_.AddHost(name, row.params.nvmf().hostnqn());
    }
  }
}

SharedNames DiscoveryConnections::Plan(const Uuid& volume, const VolumeParameters& params) const {
  SharedNames names;
  for (const nvmf::Address& endpoint : params.nvmf().discovery().discovery_endpoints()) {
    names.AddService(services_.PlanName(ToTransportAddress(endpoint), volume));
  }
  return names;
}

absl::Status DiscoveryConnections::Check(const Context& context, const record::Volume& row,
                                         const spdk::Bdev& bdev) {
  return CheckNode(target_, shared_, services_, context, row, bdev);
}

absl::Status DiscoveryConnections::Leave(const Context& context, const Uuid& volume,
                                         const std::string& name, bool is_going) {
  absl::Status status = shared_.Leave(context, volume, name, is_going);
  if (status.ok()) services_.ForgetUnused(name);
  return status;
}

absl::Status DiscoveryConnections::Join(const Context& context, base::TimePoint until,
                                        record::Volume& row) {
  const SharedNames planned = SharedNames::Parse(row.connection);
  SharedNames joined;
  bool must_wait = false;
  absl::Status status;
  for (const nvmf::Address& endpoint : row.params.nvmf().discovery().discovery_endpoints()) {
    const TransportAddress address = ToTransportAddress(endpoint);
    if (must_wait) status = WaitForLog(context, row, address, until);
    if (!status.ok()) break;
    const std::string name =
        planned.Find(ServiceKey(address)).value_or(services_.PlanName(address, row.id));
    absl::StatusOr<DiscoveryServices::Joined> service = services_.Rejoin(
        context, row.id, name, address, row.params.nvmf().hostnqn(), joined.services);
    status = service.status();
    if (!status.ok()) break;
    must_wait = service->is_started;
    if (!service->name.empty()) joined.AddService(std::move(service->name));
  }
  // After an error, the caller also leaves the services that it planned to use.
  if (!status.ok()) joined.Add(planned);
  row.connection = joined.ToText();
  return status;
}

// Waits until the target has read the log of the service. Only then does the target know the
// services to which this one refers, and refuse to start a second service for one of their
// addresses.
absl::Status DiscoveryConnections::WaitForLog(const Context& context, const record::Volume& row,
                                              const TransportAddress& next, base::TimePoint until) {
  until = std::min(until, steady_clock::now() + kLogTime);
  while (true) {
    if (absl::Status status = shared_.RefreshServices(context); !status.ok()) return status;
    if (services_.FindServing(next)) return absl::OkStatus();
    absl::StatusOr<std::optional<spdk::Bdev>> bdev =
        spdk::FindBdev(target_, context, row.id.ToString(), nanoseconds(0));
    if (!bdev.ok()) return bdev.status();
    const auto now = steady_clock::now();
    if (*bdev || now >= until) {
      // The log may have been read after RefreshServices and before the bdev was found.
      return shared_.RefreshServices(context);
    }
    if (absl::Status status = context.SleepUntil(now + kLogPause); !status.ok()) return status;
  }
}

// The target refuses a second service for a node only once the first one has read the log that
// refers to it: two concurrent calls may each have started one. Leaves the service on which the
// volume does not depend. If that fails, the next comparison with the target tries again.
void DiscoveryConnections::LeaveDuplicateServices(const Context& context, record::Volume& row) {
  const std::vector<std::string> names = SharedNames::Parse(row.connection).services;
  const bool any_recent = std::any_of(names.begin(), names.end(), [&](const std::string& name) {
    return services_.IsRecentlyStarted(name);
  });
  if (names.size() < 2 || !any_recent || !shared_.RefreshServices(context).ok()) return;
  Restore(context, row).IgnoreError();
}

absl::Status DiscoveryConnections::Restore(const Context& context, record::Volume& row) {
  const SharedNames before = SharedNames::Parse(row.connection);
  SharedNames after;
  absl::Status status;
  // If two services refer to each other, the one on which the volume depends is enough.
  const std::string hanging = ServiceOfController(shared_.ControllerOf(row.id)).value_or("");
  for (const nvmf::Address& endpoint : row.params.nvmf().discovery().discovery_endpoints()) {
    const TransportAddress address = ToTransportAddress(endpoint);
    if (Contains(before.services, hanging) && services_.IsServing(hanging, address)) {
      after.AddService(hanging);
      continue;
    }
    const std::string name =
        before.Find(ServiceKey(address)).value_or(services_.PlanName(address, row.id));
    absl::StatusOr<DiscoveryServices::Joined> service = services_.Rejoin(
        context, row.id, name, address, row.params.nvmf().hostnqn(), before.services);
    if (!service.ok()) {
      status.Update(service.status());
      after.AddService(name);
    } else if (!service->name.empty()) {
      after.AddService(std::move(service->name));
    }
  }
  // CountKnown counts the volume as a user of each connection on which it depends, so that such a
  // connection is not left. The caller checks this again.
  if (status.ok()) status = shared_.CountKnown(context, row.id, after);
  for (const std::string& name : before.All()) {
    if (Contains(after.All(), name)) continue;
    // A service that cannot be left now stays in the row, and is left when the volume is released.
    absl::Status left = status.ok() ? Leave(context, row.id, name, /*is_going=*/false) : status;
    // Leave keeps the volume as a user if the volume itself depends on the service.
    if (!left.ok() || IsUser(context, row.id, name))
      name.ends_with('_') ? after.AddService(name) : after.AddController(name);
    status.Update(std::move(left));
  }
  row.connection = after.ToText();
  if (status.ok()) status = RestartServices(context, row);
  return status;
}

// If the bdev is missing although all services are running, one of them may have skipped the
// subsystem. This function restarts them.
absl::Status DiscoveryConnections::RestartServices(const Context& context,
                                                   const record::Volume& row) {
  if (!shared_.IsMissing(row.id)) {
    services_.NoteBdevExists(row.id);
    return absl::OkStatus();
  }
  for (const std::string& name : SharedNames::Parse(row.connection).services) {
    if (absl::Status status = services_.Restart(context, row.id, name); !status.ok()) return status;
  }
  return absl::OkStatus();
}

// A directly connected volume may previously have depended on discovery services of other volumes;
// leaves those on which it no longer depends.
absl::Status DiscoveryConnections::LeaveServices(const Context& context, record::Volume& row) {
  const std::string controller = shared_.ControllerOf(row.id);
  SharedNames names = SharedNames::Parse(row.connection);
  if (controller.empty() || names.services.empty()) return absl::OkStatus();
  const std::optional<std::string> hanging = ServiceOfController(controller);
  std::vector<std::string> kept;
  absl::Status first;
  for (const std::string& name : names.services) {
    absl::Status left =
        hanging == name ? absl::OkStatus() : Leave(context, row.id, name, /*is_going=*/false);
    if (hanging == name || !left.ok() || IsUser(context, row.id, name)) kept.push_back(name);
    first.Update(std::move(left));
  }
  names.services = std::move(kept);
  row.connection = names.ToText();
  return first;
}

bool DiscoveryConnections::IsUser(const Context& context, const Uuid& volume,
                                  const std::string& name) {
  const absl::StatusOr<std::set<Uuid>> users = shared_.UsersOf(context, name);
  return users.ok() && users->contains(volume);
}

bool DiscoveryConnections::IsUnreachable(const Context& context, const record::Volume& row) const {
  const auto& endpoints = row.params.nvmf().discovery().discovery_endpoints();
  return !endpoints.empty() &&
         std::all_of(endpoints.begin(), endpoints.end(), [&](const nvmf::Address& endpoint) {
           const TransportAddress address = ToTransportAddress(endpoint);
           const std::string why = WhyUnreachable(context, address.traddr, address.trsvcid);
           // A host that refuses the connection may be connected through another port.
           return !why.empty() && !HasConnected(address, /*counts_host=*/why != kRefused);
         });
}

// Returns true if a path is up that the service at `address` has connected, or any to its host.
bool DiscoveryConnections::HasConnected(const TransportAddress& address, bool counts_host) const {
  const std::optional<std::string> serving = services_.FindServing(address);
  auto is_up = [&](const spdk::Controller& controller) {
    const bool is_of_service = serving && IsControllerOf(controller.name, *serving);
    return std::any_of(controller.paths.begin(), controller.paths.end(), [&](const auto& path) {
      const bool counts = is_of_service || (counts_host && path.address.traddr == address.traddr);
      return counts && path.is_up();
    });
  };
  return shared_.controllers().FindIf(target_.generation(), is_up).has_value();
}

std::string DiscoveryConnections::WhyNotFound(const Context& context, const record::Volume& row,
                                              bool has_waited) {
  std::string text;
  std::vector<std::string> nqns;
  const SharedNames names = SharedNames::Parse(row.connection);
  if (shared_.RefreshControllers(context).ok()) {
    shared_.controllers().ForEach(target_.generation(), [&](const spdk::Controller& controller) {
      const std::optional<std::string> service = ServiceOfController(controller.name);
      if (!service || !Contains(names.services, *service)) return;
      for (const spdk::ControllerPath& path : controller.paths) {
        if (!Contains(nqns, path.subnqn)) nqns.push_back(path.subnqn);
      }
    });
  }
  for (const nvmf::Address& endpoint : row.params.nvmf().discovery().discovery_endpoints()) {
    const std::string why = WhyUnreachable(context, endpoint.traddr(), endpoint.trsvcid());
    text += fmt::format("{}discovery service {} port {}: {}", text.empty() ? "" : "; ",
                        endpoint.traddr(), endpoint.trsvcid(),
                        why.empty() ? "accepts connections" : why);
    if (has_waited) nodes_.NoteNotFound(ToTransportAddress(endpoint), why);
  }
  if (!nqns.empty()) {
    constexpr size_t kMaxNames = 4;
    const size_t shown = std::min(nqns.size(), kMaxNames);
    text += fmt::format(
        "; no namespace with this UUID in the {} subsystems that are connected: {}{}", nqns.size(),
        fmt::join(nqns.begin(), nqns.begin() + shown, ", "), shown < nqns.size() ? ", ..." : "");
  }
  return text + OtherHosts(row);
}

// The list of other hosts is a hint: a remote subsystem may list a namespace for one host and not
// for another.
std::string DiscoveryConnections::OtherHosts(const record::Volume& row) const {
  std::string text;
  for (const std::string& name : SharedNames::Parse(row.connection).services) {
    const std::optional<std::string> host = services_.HostOf(name);
    if (!host || *host == row.params.nvmf().hostnqn()) continue;
    text += fmt::format("; discovery service {}, which other volumes use too, connects as {}", name,
                        host->empty() ? "the target's own host" : *host);
  }
  return text;
}

}  // namespace sma::volume
