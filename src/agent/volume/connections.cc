#include "agent/volume/connections.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "agent/spdk/bdev.h"
#include "agent/spdk/bdev_iscsi.h"
#include "agent/spdk/call.h"
#include "agent/volume/address.h"
#include "agent/volume/connection_names.h"
#include "agent/volume/merge.h"
#include "agent/volume/probe.h"
#include "agent/volume/shared_names.h"

namespace sma::volume {

using base::Context;
using base::Uuid;
using spdk::TransportAddress;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::steady_clock;

namespace {

// How long a service that was just started may take to tell which others it refers to.
constexpr milliseconds kLogTime{1000};
constexpr milliseconds kPollPeriod{20};
// How long the release of a connection that is down may take.
constexpr std::chrono::seconds kReleaseTime{2};

absl::Status NotFound(const record::Volume& row, std::string_view what) {
  return absl::NotFoundError(fmt::format("volume {} {}", row.id.ToString(), what));
}

bool Contains(const std::vector<std::string>& list, const std::string& text) {
  return std::find(list.begin(), list.end(), text) != list.end();
}

}  // namespace

Connections::Connections(nanoseconds timeout, jsonrpc::Caller& target, record::Record& record,
                         SecretsOf secrets_of)
    : timeout_(timeout),
      target_(target),
      record_(record),
      shared_(target, record),
      services_(target, shared_),
      controllers_(target, shared_, nodes_),
      units_(timeout, target, record, nodes_, std::move(secrets_of)) {
  std::vector<record::Volume> rows = record.Volumes();
  std::stable_sort(rows.begin(), rows.end(),
                   [](const auto& a, const auto& b) { return a.created < b.created; });
  for (const record::Volume& row : rows) {
    for (const std::string& name : SharedNames::Parse(row.connection).services) {
      services_.AddHost(name, row.params.nvmf().hostnqn());
    }
  }
}

std::string Connections::Plan(const Uuid& volume, const VolumeParameters& params) const {
  SharedNames names;
  for (const nvmf::Address& endpoint : params.nvmf().discovery().discovery_endpoints()) {
    names.AddService(services_.PlanName(ToTransportAddress(endpoint), volume));
  }
  if (params.nvmf().has_direct()) {
    names.AddController(controllers_.PlanName(params.nvmf().subnqn(), volume));
  }
  return names.ToText();
}

Outcome Connections::Connect(const Context& context, const VolumeParameters& secrets,
                             record::Volume& row) {
  if (row.params.has_iscsi()) return units_.Connect(context, secrets, row);
  const auto until = steady_clock::now() + timeout_;
  Outcome outcome;
  if (row.params.nvmf().has_discovery()) {
    outcome = JoinServices(context, until, row);
  } else if (row.params.nvmf().has_direct()) {
    outcome = controllers_.Join(context, row.id, SubsystemOf(row), timeout_);
  } else {
    return outcome;
  }
  if (!outcome.ok()) return outcome;
  return WaitForBdev(context, row.params.nvmf().subnqn(), row, until);
}

absl::Status Connections::JoinServices(const Context& context, base::TimePoint until,
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
    absl::StatusOr<DiscoveryServices::Joined> service = services_.JoinAgain(
        context, row.id, name, address, row.params.nvmf().hostnqn(), joined.services);
    status = service.status();
    if (!status.ok()) break;
    must_wait = service->is_started;
    if (!service->name.empty()) joined.AddService(std::move(service->name));
  }
  // What was planned has to be left, too.
  if (!status.ok()) joined.Add(planned);
  row.connection = joined.ToText();
  return status;
}

// A service tells which others it refers to when it has read its log. Before that, the target would
// start another service for one of them.
absl::Status Connections::WaitForLog(const Context& context, const record::Volume& row,
                                     const TransportAddress& next, base::TimePoint until) {
  until = std::min(until, steady_clock::now() + kLogTime);
  while (true) {
    if (absl::Status status = shared_.LookAtServices(context); !status.ok()) return status;
    if (services_.FindServing(next)) return absl::OkStatus();
    absl::StatusOr<std::optional<spdk::Bdev>> bdev =
        spdk::FindBdev(target_, context, row.id.ToString(), nanoseconds(0));
    if (!bdev.ok()) return bdev.status();
    const auto now = steady_clock::now();
    if (*bdev || now >= until) {
      // The log may have been read between the two.
      return shared_.LookAtServices(context);
    }
    if (absl::Status status = context.SleepUntil(now + kPollPeriod); !status.ok()) return status;
  }
}

RemoteSubsystem Connections::SubsystemOf(const record::Volume& row) const {
  const nvmf::VolumeConnectionParameters& params = row.params.nvmf();
  RemoteSubsystem subsystem{
      .controller = SharedNames::Parse(row.connection)
                        .Find(ControllerKey(params.subnqn()))
                        .value_or(controllers_.PlanName(params.subnqn(), row.id)),
      .subnqn = params.subnqn(),
      .hostnqn = params.hostnqn(),
      .addresses = {}};
  for (const nvmf::Address& address : params.direct().addresses()) {
    subsystem.addresses.push_back(ToTransportAddress(address));
  }
  return subsystem;
}

absl::Status Connections::WaitForBdev(const Context& context, const std::string& subnqn,
                                      record::Volume& row, base::TimePoint until) {
  while (true) {
    const auto now = steady_clock::now();
    const nanoseconds wait = std::max<nanoseconds>(until - now, nanoseconds(0));
    absl::StatusOr<std::optional<spdk::Bdev>> bdev =
        spdk::FindBdev(target_, context, row.id.ToString(), wait);
    if (!bdev.ok()) return bdev.status();
    if (!*bdev) return NotFound(row, "was not found in time: " + WhyNotFound(context, row));
    if (spdk::IsComplete(**bdev)) {
      const std::vector<std::string>& nqns = (*bdev)->subsystem_nqns;
      if (!subnqn.empty() && !Contains(nqns, subnqn)) {
        return absl::InvalidArgumentError(
            fmt::format("volume.nvmf.subnqn: volume {} is in {}, not in {}", row.id.ToString(),
                        nqns.empty() ? "no subsystem" : nqns.front(), subnqn));
      }
      if (absl::Status status = CheckNode(context, row, **bdev); !status.ok()) return status;
      SharedNames names = SharedNames::Parse(row.connection);
      absl::StatusOr<bool> counted = shared_.CountHanging(context, row.id, **bdev, names);
      row.connection = names.ToText();
      if (!counted.ok() || *counted) return counted.status();
    } else if (now >= until) {
      return NotFound(row, "is on the target, which does not describe it yet");
    }
    // It was removed meanwhile, or is not described completely.
    if (absl::Status status = context.SleepUntil(now + kPollPeriod); !status.ok()) return status;
  }
}

std::string Connections::WhyNotFound(const Context& context, const record::Volume& row) {
  const nvmf::VolumeConnectionParameters& params = row.params.nvmf();
  if (params.has_direct()) {
    return fmt::format("subsystem {} is connected and has no namespace with this UUID",
                       params.subnqn());
  }
  std::string text;
  std::vector<std::string> nqns;
  const SharedNames names = SharedNames::Parse(row.connection);
  if (shared_.LookAtControllers(context).ok()) {
    shared_.controllers().ForEach(target_.generation(), [&](const spdk::Controller& controller) {
      const std::optional<std::string> service = ServiceOfController(controller.name);
      if (!service || !Contains(names.services, *service)) return;
      for (const spdk::ControllerPath& path : controller.paths) {
        if (!Contains(nqns, path.subnqn)) nqns.push_back(path.subnqn);
      }
    });
  }
  for (const nvmf::Address& endpoint : params.discovery().discovery_endpoints()) {
    const std::string why = WhyUnreachable(context, endpoint.traddr(), endpoint.trsvcid());
    text += fmt::format("{}discovery service {} port {}: {}", text.empty() ? "" : "; ",
                        endpoint.traddr(), endpoint.trsvcid(),
                        why.empty() ? "accepts connections" : why);
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

// A remote may show a volume to one host and not to another.
std::string Connections::OtherHosts(const record::Volume& row) const {
  std::string text;
  for (const std::string& name : SharedNames::Parse(row.connection).services) {
    const std::optional<std::string> host = services_.HostOf(name);
    if (!host || *host == row.params.nvmf().hostnqn()) continue;
    text += fmt::format("; the discovery service {}, which other volumes use, asks as {}", name,
                        host->empty() ? "the target's own host" : *host);
  }
  return text;
}

absl::Status Connections::WriteConnection(const record::Volume& row, std::string connection) {
  std::optional<record::Volume> kept = record_.FindVolume(row.id);
  if (!kept || kept->connection == connection) return absl::OkStatus();
  kept->connection = std::move(connection);
  record::Change change;
  change.put_volumes.push_back(*std::move(kept));
  return record_.Write(std::move(change), record::Durability::kProcess);
}

absl::Status Connections::Extend(const Context& context, const VolumeParameters& asked,
                                 const VolumeParameters& secrets, record::Volume& row) {
  const auto until = steady_clock::now() + timeout_;
  const record::Volume before = row;
  if (absl::Status status = MergeConnection(asked, row.params); !status.ok()) return status;
  if (row.params.has_iscsi()) {
    absl::StatusOr<std::optional<spdk::Bdev>> bdev =
        spdk::FindBdev(target_, context, row.id.ToString(), nanoseconds(0));
    if (!bdev.ok() || *bdev) return bdev.status();
    units_.EndAttempts(row);
    absl::Status status = units_.Connect(context, secrets, row).status();
    return absl::IsAlreadyExists(status) ? absl::OkStatus() : status;
  }
  // The agent may die as soon as a new service is started.
  SharedNames names = SharedNames::Parse(before.connection);
  names.Add(SharedNames::Parse(Plan(row.id, row.params)));
  row.connection = names.ToText();
  if (absl::Status status = WriteConnection(row, row.connection); !status.ok()) return status;
  absl::Status status;
  if (row.params.nvmf().has_direct()) {
    status = controllers_.Join(context, row.id, SubsystemOf(row), timeout_).status();
  } else if (row.params.has_nvmf()) {
    status = RestoreServices(context, row);
  }
  if (status.ok() && row.params.has_nvmf()) {
    const std::string& subnqn = asked.nvmf().subnqn();
    status = WaitForBdev(context, subnqn.empty() ? row.params.nvmf().subnqn() : subnqn, row, until);
  }
  if (status.ok()) return status;
  // The row keeps what it had; only what came with this call is left again. Where that fails the
  // names stay in the row, to be left with the volume.
  const std::vector<std::string> had = SharedNames::Parse(before.connection).All();
  SharedNames kept = SharedNames::Parse(before.connection);
  for (const std::string& name : NamesOf(row).All()) {
    if (Contains(had, name) || Leave(spdk::UndoContext(), row, name, /*is_going=*/false).ok()) {
      continue;
    }
    name.ends_with('_') ? kept.AddService(name) : kept.AddController(name);
  }
  row = before;
  row.connection = kept.ToText();
  status.Update(WriteConnection(row, row.connection));
  return status;
}

// What the caller's copy of a row says and what others have added to the record since.
SharedNames Connections::NamesOf(const record::Volume& row) const {
  SharedNames names = SharedNames::Parse(row.connection);
  if (const std::optional<record::Volume> kept = record_.FindVolume(row.id)) {
    names.Add(SharedNames::Parse(kept->connection));
  }
  return names;
}

absl::Status Connections::Leave(const Context& context, const record::Volume& row,
                                const std::string& name, bool is_going) {
  if (row.params.nvmf().has_direct()) {
    RemoteSubsystem subsystem = SubsystemOf(row);
    if (subsystem.controller == name) return controllers_.Leave(context, row.id, subsystem);
  }
  absl::Status status = shared_.Leave(context, row.id, name, is_going);
  if (status.ok()) services_.ForgetUnused(name);
  return status;
}

absl::Status Connections::Release(const Context& context, const record::Volume& row) {
  absl::Status first;
  for (const std::string& name : NamesOf(row).All()) first.Update(Leave(context, row, name));
  if (row.params.has_iscsi()) first.Update(units_.Release(context, row));
  if (first.ok()) shared_.Forget(row.id);
  return first;
}

absl::Status Connections::EndAttempts(const Context& context, const record::Volume& row) {
  units_.EndAttempts(row);
  if (!row.params.nvmf().has_direct()) return absl::OkStatus();
  return controllers_.EndAttempts(context, row.id, SubsystemOf(row));
}

absl::Status Connections::ReleaseIfDown(const Context& context, const record::Volume& row,
                                        std::vector<jsonrpc::Request> before, bool only_known) {
  const Context limited = context.Child(steady_clock::now() + kReleaseTime);
  if (row.params.has_iscsi()) {
    // The target does not tell whether the portal is up: its answer is late.
    if (only_known) return absl::OkStatus();
    before.push_back(spdk::DeleteIscsiBdev(row.id.ToString()));
    target_.CallMany(limited, before);
    return absl::OkStatus();
  }
  const SharedNames names = NamesOf(row);
  if (names.All().empty()) return absl::OkStatus();
  std::optional<PathCount> paths = shared_.PathsOf(row.id);
  if (only_known && (!paths || paths->up > 0)) return absl::OkStatus();
  absl::Status status = shared_.LookAtBdevs(limited, {row.id});
  if (status.ok()) status = shared_.LookAtControllers(limited);
  if (!status.ok()) return status;
  paths = shared_.PathsOf(row.id);
  if (!paths || paths->up > 0) return absl::OkStatus();
  std::vector<jsonrpc::Request> requests = std::move(before);
  for (const std::string& name : names.All()) {
    absl::StatusOr<bool> is_last = shared_.IsLast(limited, row.id, name);
    if (!is_last.ok()) return is_last.status();
    if (!*is_last) return absl::OkStatus();
    requests.push_back(name.ends_with('_') ? spdk::StopDiscovery(name)
                                           : spdk::DetachController(name));
  }
  target_.CallMany(limited, requests);
  for (const std::string& name : names.All()) {
    shared_.services().Remove(name);
    shared_.controllers().Remove(name);
  }
  return absl::OkStatus();
}

absl::Status Connections::Look(const Context& context, const std::vector<record::Volume>& rows) {
  bool any_discovery = false;
  std::vector<Uuid> remote;
  for (const record::Volume& row : rows) {
    shared_.Track(row.id);
    any_discovery |= row.params.nvmf().has_discovery();
    if (row.params.has_nvmf()) remote.push_back(row.id);
  }
  absl::Status status;
  if (any_discovery) status = shared_.LookAtServices(context);
  if (status.ok() && !remote.empty()) status = shared_.LookAtControllers(context);
  if (status.ok()) status = shared_.LookAtBdevs(context, remote);
  return status;
}

absl::Status Connections::Restore(const Context& context, record::Volume& row) {
  if (row.params.has_iscsi()) return units_.Restore(context, row);
  absl::Status status;
  if (row.params.nvmf().has_discovery()) {
    status = RestoreServices(context, row);
  } else if (row.params.nvmf().has_direct()) {
    SharedNames names = SharedNames::Parse(row.connection);
    const RemoteSubsystem subsystem = SubsystemOf(row);
    names.AddController(subsystem.controller);
    row.connection = names.ToText();
    status = controllers_.Restore(context, row.id, subsystem);
    if (status.ok()) status = LeaveServices(context, row);
  } else {
    return absl::OkStatus();
  }
  SharedNames names = SharedNames::Parse(row.connection);
  absl::Status counted = shared_.CountKnown(context, row.id, names);
  row.connection = names.ToText();
  status.Update(counted);
  return status;
}

// A volume with a connection of its own once hung on services of others, which it does not any
// more.
absl::Status Connections::LeaveServices(const Context& context, record::Volume& row) {
  const std::string controller = shared_.ControllerOf(row.id);
  SharedNames names = SharedNames::Parse(row.connection);
  if (controller.empty() || names.services.empty()) return absl::OkStatus();
  const std::optional<std::string> hanging = ServiceOfController(controller);
  std::vector<std::string> kept;
  absl::Status first;
  for (const std::string& name : names.services) {
    absl::Status left =
        hanging == name ? absl::OkStatus() : Leave(context, row, name, /*is_going=*/false);
    if (hanging == name || !left.ok() || IsUser(context, row.id, name)) kept.push_back(name);
    first.Update(std::move(left));
  }
  names.services = std::move(kept);
  row.connection = names.ToText();
  return first;
}

bool Connections::IsRestoring(const record::Volume& row) const {
  if (row.params.has_iscsi()) return units_.IsRestoring(row);
  return row.params.nvmf().has_direct() && controllers_.IsRestoring(SubsystemOf(row));
}

std::vector<Uuid> Connections::VolumesOf(const std::string& key) {
  if (const std::optional<Uuid> volume = IscsiUnits::VolumeOf(key)) return {*volume};
  absl::StatusOr<std::set<Uuid>> users =
      shared_.UsersOf(spdk::UndoContext(), Controllers::ConnectionOf(key));
  if (!users.ok()) return {};
  return {users->begin(), users->end()};
}

bool Connections::IsUser(const Context& context, const Uuid& volume, const std::string& name) {
  const absl::StatusOr<std::set<Uuid>> users = shared_.UsersOf(context, name);
  return users.ok() && users->contains(volume);
}

absl::Status Connections::RestoreServices(const Context& context, record::Volume& row) {
  const SharedNames before = SharedNames::Parse(row.connection);
  SharedNames after;
  absl::Status status;
  // Of two services that refer to each other one is enough: the one that has the volume.
  const std::string hanging = ServiceOfController(shared_.ControllerOf(row.id)).value_or("");
  for (const nvmf::Address& endpoint : row.params.nvmf().discovery().discovery_endpoints()) {
    const TransportAddress address = ToTransportAddress(endpoint);
    if (Contains(before.services, hanging) && services_.IsServing(hanging, address)) {
      after.AddService(hanging);
      continue;
    }
    const std::string name =
        before.Find(ServiceKey(address)).value_or(services_.PlanName(address, row.id));
    absl::StatusOr<DiscoveryServices::Joined> service = services_.JoinAgain(
        context, row.id, name, address, row.params.nvmf().hostnqn(), before.services);
    if (!service.ok()) {
      status.Update(service.status());
      after.AddService(name);
    } else if (!service->name.empty()) {
      after.AddService(std::move(service->name));
    }
  }
  // What the volume hangs on is not left, and counts as used; it is looked at again by the caller.
  if (status.ok()) status = shared_.CountKnown(context, row.id, after);
  for (const std::string& name : before.All()) {
    if (Contains(after.All(), name)) continue;
    // Where it cannot be left, it stays counted and is left with the volume.
    absl::Status left = status.ok() ? Leave(context, row, name, /*is_going=*/false) : status;
    // The volume itself may hang on it.
    if (!left.ok() || IsUser(context, row.id, name))
      name.ends_with('_') ? after.AddService(name) : after.AddController(name);
    status.Update(std::move(left));
  }
  row.connection = after.ToText();
  if (status.ok()) status = KickServices(context, row);
  return status;
}

// The bdev is not there though all services are: one of them may have passed the subsystem over.
absl::Status Connections::KickServices(const Context& context, const record::Volume& row) {
  if (!shared_.IsMissing(row.id)) {
    services_.NoteThere(row.id);
    return absl::OkStatus();
  }
  for (const std::string& name : SharedNames::Parse(row.connection).services) {
    if (absl::Status status = services_.Kick(context, row.id, name); !status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace sma::volume
