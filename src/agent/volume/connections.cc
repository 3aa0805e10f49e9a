// SPDX-License-Identifier: Apache-2.0

#include "agent/volume/connections.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "agent/spdk/bdev.h"
#include "agent/spdk/bdev_iscsi.h"
#include "agent/spdk/call.h"
#include "agent/volume/address.h"
#include "agent/volume/check_node.h"
#include "agent/volume/connection_names.h"
#include "agent/volume/merge.h"
#include "agent/volume/missing.h"
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

constexpr milliseconds kPollPeriod{20};
// A caller that waited for less than this cannot conclude that a storage node is down.
constexpr milliseconds kEnoughTime{900};
// The time limit for releasing a connection that is down.
constexpr std::chrono::seconds kReleaseTime{2};

// How long a volume may take to appear after a path was added to a connection that other volumes
// use, before it is assumed that the path does not lead to the same subsystem.
constexpr std::chrono::seconds kSharedTime{1};

// How often the node of a path that was lost is queried whether it still has the subsystem.
constexpr std::chrono::seconds kProbePeriod{30};

// How long the nodes of a volume may take to accept a connection before a call fails: a node that
// accepts none will not list the volume either.
constexpr std::chrono::seconds kConnectTime{1};

std::vector<TransportAddress> AddressesOf(const nvmf::VolumeConnectionParameters& params) {
  std::vector<TransportAddress> addresses;
  for (const nvmf::Address& address : params.direct().addresses()) {
    addresses.push_back(ToTransportAddress(address));
  }
  return addresses;
}

absl::Status NotFound(const record::Volume& row, std::string_view what) {
  return absl::NotFoundError(fmt::format("volume {} {}", row.id.ToString(), what));
}

}  // namespace

Connections::Connections(nanoseconds timeout, jsonrpc::Caller& target, record::Record& record,
                         SecretsOf secrets_of)
    : timeout_(timeout),
      target_(target),
      record_(record),
      shared_(target, record),
      discovery_(target, record, shared_, nodes_),
      controllers_(target, shared_, nodes_),
      units_(timeout, target, record, nodes_, std::move(secrets_of)) {}

std::string Connections::Plan(const Uuid& volume, const VolumeParameters& params) const {
  SharedNames names = discovery_.Plan(volume, params);
  if (params.nvmf().has_direct()) {
    names.AddController(
        controllers_.PlanName(params.nvmf().subnqn(), volume, AddressesOf(params.nvmf())));
  }
  return names.ToText();
}

Outcome Connections::Connect(const Context& context, const VolumeParameters& secrets,
                             record::Volume& row) {
  if (row.params.has_iscsi()) return units_.Connect(context, secrets, row);
  const auto until = steady_clock::now() + timeout_;
  Outcome outcome;
  std::vector<RemoteNodes::Visit> visits;
  if (row.params.nvmf().has_discovery()) {
    auto begun = discovery_.Begin(context, row.params);
    if (!begun.ok()) return begun.status();
    visits = *std::move(begun);
    outcome = discovery_.Join(context, until, row);
    if (outcome.ok()) outcome = WaitForBdev(context, row.params.nvmf().subnqn(), row, until);
    if (outcome.ok()) outcome = CheckPathUp(context, row);
    if (outcome.ok()) discovery_.NoteFound(context, row);
  } else if (row.params.nvmf().has_direct()) {
    outcome = ConnectDirect(context, until, row);
  }
  return outcome;
}

// The target keeps the bdevs of a subsystem whose node no longer answers; a host's I/O would hang.
absl::Status Connections::CheckPathUp(const Context& context, const record::Volume& row) {
  std::optional<PathCount> paths = shared_.PathsOf(row.id);
  if (!paths || paths->up > 0) return absl::OkStatus();
  if (absl::Status status = shared_.RefreshControllers(context); !status.ok()) return status;
  paths = shared_.PathsOf(row.id);
  if (!paths || paths->up > 0) return absl::OkStatus();
  return absl::UnavailableError(
      fmt::format("volume {}: no path to its storage node is up", row.id.ToString()));
}

// Another storage node may have a subsystem of the same name, to which the connection leads: then
// the added paths do not lead to the volume, which gets a connection of its own.
Outcome Connections::ConnectDirect(const Context& context, base::TimePoint until,
                                   record::Volume& row) {
  const RemoteSubsystem shared = SubsystemOf(row);
  JoinedPaths joined;
  Outcome outcome = controllers_.Join(context, row.id, shared, {.timeout = timeout_}, joined);
  if (outcome.ok()) {
    const auto end = steady_clock::now() + kSharedTime;
    outcome = WaitForBdev(context, shared.subnqn, row,
                          joined.may_be_another ? std::min(until, end) : until);
  }
  if (outcome.ok()) return outcome;
  const absl::Status removed = controllers_.RemovePaths(spdk::UndoContext(), row.id, shared,
                                                        joined.added, /*is_going=*/true);
  if (!removed.ok()) return std::move(outcome).AfterUndo(removed);
  if (!joined.may_be_another || !absl::IsNotFound(outcome.status()) || outcome.is_unknown()) {
    return outcome;
  }
  SharedNames names = SharedNames::Parse(row.connection);
  const std::string separate = Controllers::SeparateName(shared.subnqn, row.id);
  names.AddController(separate);
  if (absl::Status status = WriteConnection(row, names.ToText()); !status.ok()) return status;
  if (absl::Status status = controllers_.Leave(context, row.id, shared); !status.ok()) {
    return Outcome::Unknown(status);
  }
  std::erase(names.controllers, shared.controller);
  row.connection = names.ToText();
  outcome = controllers_.Join(context, row.id, SubsystemOf(row), {.timeout = timeout_}, joined);
  return outcome.ok() ? WaitForBdev(context, shared.subnqn, row, until) : outcome;
}

RemoteSubsystem Connections::SubsystemOf(const record::Volume& row) const {
  const nvmf::VolumeConnectionParameters& params = row.params.nvmf();
  RemoteSubsystem subsystem{
      .controller =
          SharedNames::Parse(row.connection).Find(ControllerKey(params.subnqn())).value_or(""),
      .subnqn = params.subnqn(),
      .hostnqn = params.hostnqn(),
      .addresses = AddressesOf(params)};
  if (subsystem.controller.empty()) {
    subsystem.controller = controllers_.PlanName(params.subnqn(), row.id, subsystem.addresses);
  }
  return subsystem;
}

// Returns why the volume's bdev has not appeared. `is_cut_off`: its discovery services cannot be
// reached.
absl::Status Connections::WhyNotFound(const Context& context, const record::Volume& row,
                                      bool has_waited, bool is_cut_off) {
  const nvmf::VolumeConnectionParameters& params = row.params.nvmf();
  if (params.has_direct()) {
    // The node may have died in the meantime.
    absl::Status missing = shared_.RefreshControllers(context);
    if (missing.ok()) missing = discovery_.WhyMissing(row);
    if (absl::IsUnavailable(missing)) return missing;
    return NotFound(row, fmt::format("was not found in time: subsystem {} is connected and has no "
                                     "namespace with this UUID",
                                     params.subnqn()));
  }
  const std::string why = discovery_.WhyNotFound(context, row, has_waited);
  if (!is_cut_off) return NotFound(row, "was not found in time: " + why);
  return absl::UnavailableError(
      fmt::format("volume {} cannot be reached: {}", row.id.ToString(), why));
}

absl::Status Connections::WaitForBdev(const Context& context, const std::string& subnqn,
                                      record::Volume& row, base::TimePoint until) {
  const auto begin = steady_clock::now();
  bool is_reachable = !row.params.nvmf().has_discovery();
  while (true) {
    const auto now = steady_clock::now();
    const auto wait_until = is_reachable ? until : std::min(until, begin + kConnectTime);
    const nanoseconds wait = std::max<nanoseconds>(wait_until - now, nanoseconds(0));
    absl::StatusOr<std::optional<spdk::Bdev>> bdev =
        spdk::FindBdev(target_, context, row.id.ToString(), wait);
    if (!bdev.ok()) return bdev.status();
    const bool is_cut_off = !*bdev && !is_reachable && shared_.RefreshControllers(context).ok() &&
                            discovery_.IsUnreachable(context, row);
    if (!*bdev && !is_cut_off && wait_until < until) {
      is_reachable = true;
      continue;
    }
    if (!*bdev) {
      const bool has_waited = steady_clock::now() - begin >= kEnoughTime;
      return WhyNotFound(context, row, has_waited, is_cut_off);
    }
    if (spdk::IsComplete(**bdev)) {
      const std::vector<std::string>& nqns = (*bdev)->subsystem_nqns;
      if (!subnqn.empty() && !Contains(nqns, subnqn)) {
        return absl::InvalidArgumentError(
            fmt::format("volume.nvmf.subnqn: volume {} is in {}, not in {}", row.id.ToString(),
                        nqns.empty() ? "no subsystem" : nqns.front(), subnqn));
      }
      absl::Status status = discovery_.Check(context, row, **bdev);
      // The volume may move between controllers during the check.
      const bool may_move = absl::IsUnavailable(status) && !context.done() &&
                            steady_clock::now() < std::min(until, begin + kConnectTime);
      if (may_move) {
        if (status = context.SleepUntil(now + kPollPeriod); !status.ok()) return status;
        continue;
      }
      if (!status.ok()) return status;
      SharedNames names = SharedNames::Parse(row.connection);
      absl::StatusOr<bool> counted = shared_.CountHanging(context, row.id, **bdev, names);
      row.connection = names.ToText();
      if (!counted.ok() || *counted) return counted.status();
    } else if (now >= until) {
      return NotFound(row, "has a bdev on the target, which does not describe it completely yet");
    }
    // Either the bdev has been removed in the meantime, or the target does not describe it
    // completely yet.
    if (absl::Status status = context.SleepUntil(now + kPollPeriod); !status.ok()) return status;
  }
}

absl::Status Connections::WriteConnection(const record::Volume& row, std::string connection) {
  auto make = [&] {
    record::Change change;
    std::optional<record::Volume> kept = record_.FindVolume(row.id);
    if (!kept || kept->connection == connection) return change;
    kept->connection = connection;
    change.put_volumes.push_back(*std::move(kept));
    return change;
  };
  return record_.Update(make, record::Durability::kProcess);
}

// A volume without connection parameters may have been adopted with a connection that another agent
// had created, and gets it with the first request that names one. Returns INVALID_ARGUMENT if it is
// a local bdev of the target.
absl::Status Connections::CheckNotLocal(const Context& context, const record::Volume& row) {
  if (row.params.has_nvmf() || row.params.has_iscsi()) return absl::OkStatus();
  absl::StatusOr<std::optional<spdk::Bdev>> bdev =
      spdk::FindBdev(target_, context, row.id.ToString(), nanoseconds(0));
  if (!bdev.ok()) return bdev.status();
  if (!*bdev || (*bdev)->is_nvme) return absl::OkStatus();
  return absl::InvalidArgumentError("volume: is attached as a local bdev of the target");
}

absl::Status Connections::Extend(const Context& context, const VolumeParameters& asked,
                                 const VolumeParameters& secrets, record::Volume& row) {
  const auto until = steady_clock::now() + timeout_;
  const record::Volume before = row;
  if (absl::Status status = CheckNotLocal(context, row); !status.ok()) return status;
  if (absl::Status status = MergeConnection(asked, row.params); !status.ok()) return status;
  if (row.params.has_iscsi()) {
    absl::StatusOr<std::optional<spdk::Bdev>> bdev =
        spdk::FindBdev(target_, context, row.id.ToString(), nanoseconds(0));
    if (!bdev.ok()) return bdev.status();
    if (*bdev) return CheckIdentity(row, **bdev);
    units_.EndAttempts(row);
    absl::Status status = units_.Connect(context, secrets, row).status();
    return absl::IsAlreadyExists(status) ? absl::OkStatus() : status;
  }
  shared_.Track(row.id, row.params);
  std::vector<RemoteNodes::Visit> visits;
  if (row.params.nvmf().has_discovery()) {
    auto begun = discovery_.Begin(context, row.params);
    // The bdev may exist even though the node does not answer.
    if (!begun.ok() && shared_.IsMissing(row.id)) return begun.status();
    if (begun.ok()) visits = *std::move(begun);
  }
  // The names are written before any service is started, in case the agent dies after starting one.
  SharedNames names = SharedNames::Parse(before.connection);
  const bool has_controller =
      row.params.nvmf().has_direct() && names.Find(ControllerKey(row.params.nvmf().subnqn()));
  if (!has_controller) names.Add(SharedNames::Parse(Plan(row.id, row.params)));
  row.connection = names.ToText();
  if (absl::Status status = WriteConnection(row, row.connection); !status.ok()) return status;
  absl::Status status;
  JoinedPaths joined;
  if (row.params.nvmf().has_direct()) {
    const JoinOptions options{.timeout = timeout_, .needs_path = shared_.IsMissing(row.id)};
    status = controllers_.Join(context, row.id, SubsystemOf(row), options, joined).status();
  } else if (row.params.has_nvmf()) {
    status = discovery_.Restore(context, row);
  }
  if (status.ok() && row.params.has_nvmf()) {
    const std::string& subnqn = asked.nvmf().subnqn();
    status = WaitForBdev(context, subnqn.empty() ? row.params.nvmf().subnqn() : subnqn, row, until);
  }
  // After a restart of the target, each of the volume's endpoints may have its own service again.
  if (status.ok() && row.params.nvmf().has_discovery()) discovery_.NoteFound(context, row);
  if (status.ok()) return status;
  status.Update(UndoExtend(before, joined.added, row));
  return status;
}

// Releases only what the call has added; the row keeps the other connections. A connection that
// cannot be released stays in the row, and is released with the volume.
absl::Status Connections::UndoExtend(const record::Volume& before,
                                     const std::vector<TransportAddress>& added,
                                     record::Volume& row) {
  absl::Status status;
  if (row.params.nvmf().has_direct()) {
    std::vector<TransportAddress> removed;
    const std::vector<TransportAddress> named = AddressesOf(before.params.nvmf());
    std::ranges::copy_if(added, std::back_inserter(removed), [&](const TransportAddress& address) {
      return std::ranges::none_of(
          named, [&](const TransportAddress& kept) { return spdk::SameAddress(kept, address); });
    });
    status = controllers_.RemovePaths(spdk::UndoContext(), row.id, SubsystemOf(row), removed,
                                      /*is_going=*/false);
  }
  const std::vector<std::string> had = SharedNames::Parse(before.connection).All();
  SharedNames kept = SharedNames::Parse(before.connection);
  for (const std::string& name : NamesOf(row).All()) {
    if (Contains(had, name) || Leave(spdk::UndoContext(), row, name, /*is_going=*/false).ok()) {
      continue;
    }
    name.ends_with('_') ? kept.AddService(name) : kept.AddController(name);
  }
  shared_.SetPaths(before);
  row = before;
  row.connection = kept.ToText();
  status.Update(WriteConnection(row, row.connection));
  return status;
}

// Returns the names in the caller's copy of a row, and those that other threads have added to the
// record since it was read.
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
  return discovery_.Leave(context, row.id, name, is_going);
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
                                        const RemovalOf& removal_of, bool only_known) {
  const Context limited = context.Child(steady_clock::now() + kReleaseTime);
  if (row.params.has_iscsi()) {
    // The target does not report whether the portal is up. If the portal is up, the device is not
    // waiting for it, but for the guest of a VM that is still using the disk.
    if (only_known || units_.DoesPortalAnswer(limited, row)) return absl::OkStatus();
    std::vector<jsonrpc::Request> requests = removal_of(row);
    requests.push_back(spdk::DeleteIscsiBdev(row.id.ToString()));
    target_.CallMany(limited, requests);
    return absl::OkStatus();
  }
  const SharedNames names = NamesOf(row);
  if (names.All().empty()) return absl::OkStatus();
  std::optional<PathCount> paths = shared_.PathsOf(row.id);
  if (only_known && (!paths || paths->up > 0)) return absl::OkStatus();
  absl::Status status = shared_.RefreshBdevs(limited, {row.id});
  if (status.ok()) status = shared_.RefreshControllers(limited);
  if (!status.ok()) return status;
  paths = shared_.PathsOf(row.id);
  if (!paths || paths->up > 0) return absl::OkStatus();
  return ReleaseAllAtOnce(limited, row, names.All(), removal_of);
}

// Releases the connections without waiting for their volumes to be detached, unless another volume
// stays on one of them.
absl::Status Connections::ReleaseAllAtOnce(const Context& context, const record::Volume& row,
                                           const std::vector<std::string>& names,
                                           const RemovalOf& removal_of) {
  std::set<Uuid> others;
  std::vector<jsonrpc::Request> releases;
  for (const std::string& name : names) {
    auto others_of_name = shared_.FindOthersThatGo(context, row.id, name);
    if (!others_of_name.ok()) return others_of_name.status();
    if (!*others_of_name) return absl::OkStatus();
    others.merge(**others_of_name);
    releases.push_back(name.ends_with('_') ? spdk::StopDiscovery(name)
                                           : spdk::DetachController(name));
  }
  std::vector<jsonrpc::Request> requests = removal_of(row);
  for (const Uuid& id : others) {
    const std::optional<record::Volume> other = record_.FindVolume(id);
    if (!other) continue;
    std::vector<jsonrpc::Request> removal = removal_of(*other);
    std::move(removal.begin(), removal.end(), std::back_inserter(requests));
  }
  std::move(releases.begin(), releases.end(), std::back_inserter(requests));
  target_.CallMany(context, requests);
  for (const std::string& name : names) {
    shared_.services().Remove(name);
    shared_.controllers().Remove(name);
  }
  return absl::OkStatus();
}

absl::Status Connections::Refresh(const Context& context, const std::vector<record::Volume>& rows) {
  bool any_discovery = false;
  std::vector<Uuid> remote;
  for (const record::Volume& row : rows) {
    shared_.Track(row.id, row.params);
    any_discovery |= row.params.nvmf().has_discovery();
    if (row.params.has_nvmf()) remote.push_back(row.id);
  }
  absl::Status status;
  if (any_discovery) status = shared_.RefreshServices(context);
  if (status.ok() && !remote.empty()) status = shared_.RefreshControllers(context);
  if (status.ok()) status = shared_.RefreshBdevs(context, remote);
  return status;
}

absl::Status Connections::Restore(const Context& context, record::Volume& row) {
  if (row.params.has_iscsi()) return units_.Restore(context, row);
  absl::Status status;
  if (row.params.nvmf().has_discovery()) {
    status = discovery_.Restore(context, row);
  } else if (row.params.nvmf().has_direct()) {
    SharedNames names = SharedNames::Parse(row.connection);
    const RemoteSubsystem subsystem = SubsystemOf(row);
    names.AddController(subsystem.controller);
    row.connection = names.ToText();
    status = controllers_.Restore(context, row.id, subsystem);
    if (!shared_.IsMissing(row.id)) {
      controllers_.NoteBdevExists(row.id);
    } else if (status.ok()) {
      status = controllers_.Reconnect(context, row.id, subsystem);
    }
    if (status.ok()) status = discovery_.LeaveServices(context, row);
  } else {
    return absl::OkStatus();
  }
  ForgetOldPaths(context, row);
  SharedNames names = SharedNames::Parse(row.connection);
  absl::Status counted = shared_.CountKnown(context, row.id, names);
  row.connection = names.ToText();
  status.Update(counted);
  return status.ok() ? shared_.CheckNamespace(row.id) : status;
}

// A volume keeps the paths through which it was found until a node answers that it is no longer
// there, while the volume is found through other paths. A node that does not answer removes no
// path.
void Connections::ForgetOldPaths(const Context& context, const record::Volume& row) {
  std::set<RemotePath> named;
  for (const TransportAddress& address : AddressesOf(row.params.nvmf())) {
    named.insert(RemotePath::Of(address, row.params.nvmf().subnqn()));
  }
  for (const RemotePath& lost : shared_.LostPathsOf(row.id)) {
    if (named.contains(lost) || !IsRefuted(context, row, lost)) continue;
    spdlog::info("volume {}: is no longer in subsystem {} at {}", row.id.ToString(), lost.subnqn,
                 NodeName(lost.address()));
    shared_.ForgetPath(row.id, lost);
  }
}

bool Connections::IsRefuted(const Context& context, const record::Volume& row,
                            const RemotePath& lost) {
  if (shared_.IsElsewhere(row.id, lost)) return true;
  const auto now = steady_clock::now();
  {
    base::MutexLock lock(mutex_);
    std::erase_if(next_probe_, [&](const auto& entry) { return entry.second <= now; });
    if (!next_probe_.emplace(lost, now + kProbePeriod).second) return false;
  }
  const Context limited = context.Child(now + RemoteNodes::kPatience);
  if (!HasNoSubsystem(limited, row.params.nvmf().hostnqn(), {lost})) return false;
  base::MutexLock lock(mutex_);
  next_probe_.erase(lost);
  return true;
}

bool Connections::IsGone(const Context& context, const record::Volume& row) {
  if (row.params.has_iscsi()) {
    return nodes_.Admit(row.params.iscsi().portal()).ok() && units_.HasNoTarget(context, row);
  }
  if (!Refresh(context, {row}).ok()) return false;
  if (absl::IsNotFound(WhyMissing(row))) return true;
  const std::set<RemotePath> paths = discovery_.OpenPathsOf(row);
  const bool may_answer = std::all_of(paths.begin(), paths.end(), [&](const RemotePath& path) {
    return nodes_.Admit(NodeName(path.address())).ok();
  });
  return may_answer && HasNoSubsystem(context, row.params.nvmf().hostnqn(), paths);
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

}  // namespace sma::volume
