// SPDX-License-Identifier: Apache-2.0

#include "agent/volume/shared_connections.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "agent/spdk/call.h"
#include "agent/volume/address.h"
#include "agent/volume/connection_names.h"

namespace sma::volume {

using base::Context;
using base::Uuid;
using jsonrpc::Request;

namespace {

// The maximum number of bdevs queried in one batch.
constexpr size_t kMaxQueries = 128;

// How often the connections that are kept for others are queried.
constexpr std::chrono::seconds kLingeringPeriod{1};

// The name of a service ends with the separator that precedes a controller's number.
bool IsService(const std::string& name) { return name.ends_with('_'); }

// Returns true if the volume is connected directly through this address.
bool IsAt(const record::Volume& row, const spdk::TransportAddress& address) {
  const auto& addresses = row.params.nvmf().direct().addresses();
  return std::any_of(addresses.begin(), addresses.end(), [&](const nvmf::Address& other) {
    return spdk::SameAddress(ToTransportAddress(other), address);
  });
}

}  // namespace

SharedConnections::SharedConnections(jsonrpc::Caller& target, record::Record& record)
    : target_(target), record_(record) {
  for (const record::Volume& row : record.Volumes()) {
    SetPaths(row);
    for (const std::string& name : SharedNames::Parse(row.connection).All()) {
      counts_.Add(name, row.id);
    }
  }
}

void SharedConnections::Track(const Uuid& volume, const VolumeParameters& params) {
  bdevs_.Track(volume);
  std::set<RemotePath> paths;
  for (const nvmf::Address& address : params.nvmf().direct().addresses()) {
    paths.insert(RemotePath::Of(ToTransportAddress(address), params.nvmf().subnqn()));
  }
  bdevs_.AddPaths(volume, paths);
}

void SharedConnections::SetPaths(const record::Volume& row) {
  bdevs_.ForgetPaths(row.id);
  bdevs_.AddPaths(row.id, SharedNames::Parse(row.connection).paths);
  Track(row.id, row.params);
}

std::optional<std::string> SharedConnections::FindByKey(
    std::string_view key, const std::function<bool(const std::string& name)>& matches) const {
  return counts_.FindUsed(key, [&](const std::string& name) {
    return KeyOf(name) == key && (matches == nullptr || matches(name));
  });
}

bool SharedConnections::IsAtAnyOf(const std::string& name,
                                  const std::vector<spdk::TransportAddress>& addresses) const {
  bool is_at = false;
  record_.VisitVolumes([&](const record::Volume& row) {
    if (is_at || !Contains(SharedNames::Parse(row.connection).controllers, name)) return;
    is_at = std::any_of(addresses.begin(), addresses.end(),
                        [&](const auto& address) { return IsAt(row, address); });
  });
  return is_at;
}

absl::StatusOr<bool> SharedConnections::IsNeededByOthers(const Context& context, const Uuid& volume,
                                                         const std::string& name,
                                                         const spdk::TransportAddress& address) {
  absl::StatusOr<UseCounts::Held> held = Lock(context, name);
  if (!held.ok()) return held.status();
  return IsNeededBy(held->users(), volume, address);
}

// Returns true if one of `users` other than `volume` names the address, or names none: the target
// does not attach a path twice, so a volume that was found by discovery may depend on any of them.
bool SharedConnections::IsNeededBy(const std::set<Uuid>& users, const Uuid& volume,
                                   const spdk::TransportAddress& address) const {
  return std::any_of(users.begin(), users.end(), [&](const Uuid& user) {
    if (user == volume) return false;
    const std::optional<record::Volume> row = record_.FindVolume(user);
    return row && (!row->params.nvmf().has_direct() || IsAt(*row, address));
  });
}

absl::Status SharedConnections::RemovePath(const Context& context, const Uuid& volume,
                                           const std::string& name, const std::string& subnqn,
                                           const spdk::TransportAddress& address, bool is_going) {
  absl::StatusOr<UseCounts::Held> held = Lock(context, name);
  if (!held.ok()) return held.status();
  const std::set<Uuid>& users = held->users();
  const bool is_released =
      is_going &&
      std::all_of(users.begin(), users.end(), [&](const Uuid& user) { return user == volume; });
  if (is_released || IsNeededBy(users, volume, address)) return absl::OkStatus();
  if (absl::Status status = RefreshControllers(context); !status.ok()) return status;
  const uint64_t generation = target_.generation();
  const std::optional<spdk::Controller> known = controllers_.Find(generation, name);
  const bool is_last =
      !known ||
      std::none_of(known->paths.begin(), known->paths.end(), [&](const spdk::ControllerPath& path) {
        return path.is_up() && !spdk::SameAddress(path.address, address);
      });
  if (is_last) return absl::OkStatus();
  absl::Status status = spdk::DoToEnd(target_, context, spdk::DetachPath(name, address, subnqn));
  if (!status.ok() && !spdk::IsUnknownName(status)) return status;
  if (controllers_.Find(generation, name)) {
    controllers_.Update(generation, name, [&](spdk::Controller& controller) {
      std::erase_if(controller.paths, [&](const spdk::ControllerPath& path) {
        return spdk::SameAddress(path.address, address);
      });
    });
  }
  return absl::OkStatus();
}

std::string SharedConnections::PlanName(std::string_view key, std::string name) {
  base::MutexLock lock(mutex_);
  if (std::optional<std::string> used = FindByKey(key)) return *std::move(used);
  return planned_.try_emplace(std::string(key), std::move(name)).first->second;
}

SharedNames SharedConnections::HangsOn(const std::string& controller) const {
  SharedNames names;
  if (!HasAgentsForm(controller)) return names;
  if (auto service = ServiceOfController(controller)) names.AddService(*std::move(service));
  names.AddController(controller);
  return names;
}

absl::StatusOr<bool> SharedConnections::CountOne(const Context& context, const Uuid& volume,
                                                 const std::string& name, SharedNames& names) {
  absl::StatusOr<UseCounts::Held> held = Lock(context, name);
  if (!held.ok()) return held.status();
  if (held->users().empty()) {
    base::MutexLock lock(mutex_);
    if (lingering_.erase(name) == 0) return false;
  }
  held->users().insert(volume);
  IsService(name) ? names.AddService(name) : names.AddController(name);
  return true;
}

// Counts `volume` as a user of the connections to which a controller of this name would belong.
// Returns false if no volume uses them, either because the agent did not create them or because it
// has just released them.
absl::StatusOr<bool> SharedConnections::CountController(const Context& context, const Uuid& volume,
                                                        const std::string& controller,
                                                        SharedNames& names) {
  for (const std::string& name : HangsOn(controller).All()) {
    absl::StatusOr<bool> counted = CountOne(context, volume, name, names);
    if (!counted.ok() || *counted) return counted;
  }
  return false;
}

absl::StatusOr<bool> SharedConnections::CountHanging(const Context& context, const Uuid& volume,
                                                     const spdk::Bdev& bdev, SharedNames& names) {
  NoteBdev(target_.generation(), volume, bdev);
  names.paths = bdevs_.PathsOf(volume);
  const std::optional<std::string> controller =
      bdev.is_nvme ? ControllerOfBdev(bdev.name) : std::nullopt;
  if (!controller || !HasAgentsForm(*controller)) return true;
  absl::StatusOr<bool> counted = CountController(context, volume, *controller, names);
  if (!counted.ok() || *counted) return counted;
  absl::StatusOr<std::optional<spdk::Bdev>> still =
      spdk::FindBdev(target_, context, volume.ToString(), std::chrono::nanoseconds(0));
  if (!still.ok()) return still.status();
  return still->has_value() && (*still)->name == bdev.name;
}

absl::Status SharedConnections::CountKnown(const Context& context, const Uuid& volume,
                                           SharedNames& names) {
  const std::optional<KnownBdev> known = bdevs_.Find(target_.generation(), volume);
  if (known && known->is_namespace) {
    // Paths that were connected after the bdev was described.
    const auto controller = controllers_.Find(target_.generation(), known->controller);
    std::set<RemotePath> paths;
    for (const auto& path : controller ? controller->paths : std::vector<spdk::ControllerPath>()) {
      if (path.is_up()) paths.insert(RemotePath::Of(path.address, path.subnqn));
    }
    bdevs_.AddPaths(volume, paths);
  }
  names.paths = bdevs_.PathsOf(volume);
  if (!known || known->controller.empty()) return absl::OkStatus();
  return CountController(context, volume, known->controller, names).status();
}

absl::Status SharedConnections::Leave(const Context& context, const Uuid& volume,
                                      const std::string& name, bool is_going) {
  {
    base::MutexLock lock(mutex_);
    auto planned = planned_.find(KeyOf(name));
    if (planned != planned_.end() && planned->second == name) planned_.erase(planned);
  }
  absl::StatusOr<UseCounts::Held> held = Lock(context, name);
  if (!held.ok()) return held.status();
  held->users().erase(volume);
  if (!held->users().empty()) return absl::OkStatus();
  const Except except{.volume = is_going ? std::optional(volume) : std::nullopt};
  absl::StatusOr<Needed> needed = FindNeeded(context, except, name);
  absl::Status status = needed.status();
  if (status.ok() && !needed->volumes.empty()) {
    held->users() = needed->volumes;
    for (const Uuid& other : needed->volumes) status.Update(RecordHanging(other, name));
    if (status.ok()) return status;
  }
  if (status.ok() && !needed->others.empty()) {
    spdlog::warn("connection {} is kept, because others use it: {}", name, needed->others);
    base::MutexLock lock(mutex_);
    lingering_.insert(name);
    return status;
  }
  if (status.ok()) status = Disconnect(context, name);
  if (!status.ok()) held->users().insert(volume);
  return status;
}

// The names are not in the record: after a restart of the agent, these connections belong to those
// who use them.
absl::Status SharedConnections::ReleaseLingering(const Context& context) {
  std::set<std::string> names;
  {
    base::MutexLock lock(mutex_);
    const auto now = std::chrono::steady_clock::now();
    if (lingering_.empty() || now - last_release_ < kLingeringPeriod) return absl::OkStatus();
    last_release_ = now;
    names = lingering_;
  }
  absl::Status first;
  for (const std::string& name : names) {
    absl::StatusOr<UseCounts::Held> held = Lock(context, name);
    if (!held.ok()) return held.status();
    absl::Status status;
    if (held->users().empty()) {
      absl::StatusOr<Needed> needed = FindNeeded(context, {}, name);
      status = needed.status();
      if (status.ok() && !needed->by_nobody()) continue;
      if (status.ok()) status = Disconnect(context, name);
    }
    first.Update(status);
    if (!status.ok()) continue;
    base::MutexLock lock(mutex_);
    lingering_.erase(name);
  }
  return first;
}

absl::StatusOr<std::set<Uuid>> SharedConnections::UsersOf(const Context& context,
                                                          const std::string& name) {
  absl::StatusOr<UseCounts::Held> held = Lock(context, name);
  if (!held.ok()) return held.status();
  return held->users();
}

absl::StatusOr<bool> SharedConnections::IsIdle(const Context& context, const std::string& name) {
  absl::StatusOr<Dependents> dependents = FindDependents(context, name, /*with_bdevs=*/false);
  if (!dependents.ok()) return dependents.status();
  return dependents->controllers.empty();
}

absl::StatusOr<bool> SharedConnections::HasNoVolumes(const Context& context,
                                                     const std::string& name) {
  absl::StatusOr<Needed> needed = FindNeeded(context, {}, name);
  if (!needed.ok()) return needed.status();
  return needed->by_nobody();
}

// A volume that is being removed still uses the connection: the target removes its namespace only
// when its I/O has ended. If such volumes kept the connection for each other, no I/O would end.
absl::StatusOr<std::optional<std::set<Uuid>>> SharedConnections::FindOthersThatGo(
    const Context& context, const Uuid& volume, const std::string& name) {
  absl::StatusOr<UseCounts::Held> held = Lock(context, name);
  if (!held.ok()) return held.status();
  std::set<Uuid> others = held->users();
  others.erase(volume);
  const bool any_stays =
      std::any_of(others.begin(), others.end(), [&](const Uuid& user) { return Stays(user); });
  if (any_stays) return std::nullopt;
  absl::StatusOr<Needed> needed = FindNeeded(context, {.volume = volume, .in_use = true}, name);
  if (!needed.ok()) return needed.status();
  if (!needed->by_nobody()) return std::nullopt;
  return others;
}

// Returns true if the volume is in the record and not being removed.
bool SharedConnections::Stays(const Uuid& volume) const {
  const std::optional<record::Volume> row = record_.FindVolume(volume);
  return row && row->state != record::VolumeState::kDetaching;
}

// Writes to the record that `volume` depends on the connection, for the next start of the agent.
absl::Status SharedConnections::RecordHanging(const Uuid& volume, const std::string& name) {
  // Uses Update, because the lock of the volume is not held here.
  auto make = [&] {
    record::Change change;
    std::optional<record::Volume> row = record_.FindVolume(volume);
    if (!row) return change;
    SharedNames names = SharedNames::Parse(row->connection);
    IsService(name) ? names.AddService(name) : names.AddController(name);
    std::string text = names.ToText();
    if (text == row->connection) return change;
    row->connection = std::move(text);
    change.put_volumes.push_back(*std::move(row));
    return change;
  };
  return record_.Update(make, record::Durability::kProcess);
}

absl::Status SharedConnections::Disconnect(const Context& context, const std::string& name) {
  const bool is_service = IsService(name);
  auto forget = [&] { is_service ? services_.Remove(name) : controllers_.Remove(name); };
  forget();
  const Request request = is_service ? spdk::StopDiscovery(name) : spdk::DetachController(name);
  absl::Status status = spdk::DoToEnd(target_, context, request);
  forget();
  return spdk::IsUnknownName(status) ? absl::OkStatus() : status;
}

std::set<std::string> SharedConnections::KnownControllersOf(const std::string& name) const {
  if (!IsService(name)) return {name};
  std::set<std::string> names;
  controllers_.ForEach(target_.generation(), [&](const spdk::Controller& controller) {
    if (ServiceOfController(controller.name) == name) names.insert(controller.name);
  });
  return names;
}

// Queries, in one round trip, the controllers of a connection and, if `with_bdevs` is set, who uses
// the bdevs of those that were known before.
absl::StatusOr<Dependents> SharedConnections::FindDependents(const Context& context,
                                                             const std::string& name,
                                                             bool with_bdevs) {
  const auto before = controllers_.snapshot(target_.generation());
  std::vector<Request> requests;
  requests.push_back(IsService(name) ? spdk::GetControllers() : spdk::GetController(name));
  std::set<std::string> names;
  if (with_bdevs) {
    requests.push_back(spdk::GetVhostControllers());
    names = names_.Of(KnownControllersOf(name));
    for (const std::string& bdev : names) requests.push_back(spdk::GetBdev(bdev));
  }
  const spdk::Results answers = target_.CallMany(context, requests);
  Dependents dependents;
  if (spdk::IsUnknownName(answers[0].status())) return dependents;
  if (!answers[0].ok()) return answers[0].status();
  absl::StatusOr<std::vector<spdk::Controller>> controllers = spdk::ParseControllers(*answers[0]);
  if (!controllers.ok()) return controllers.status();
  if (IsService(name)) controllers_.Replace(before, *controllers);
  for (const spdk::Controller& controller : *controllers) {
    if (controller.name != name && ServiceOfController(controller.name) != name) continue;
    dependents.controllers.insert(controller.name);
    for (const spdk::ControllerPath& path : controller.paths) dependents.nqns.insert(path.subnqn);
  }
  if (!with_bdevs || dependents.controllers.empty()) return dependents;
  auto vhosts = ParseVhosts(answers[1]);
  if (!vhosts.ok()) return vhosts.status();
  dependents.vhosts = *std::move(vhosts);
  size_t next = 2;
  for (const std::string& bdev_name : names) {
    absl::StatusOr<std::optional<spdk::Bdev>> bdev = spdk::ParseBdev(answers[next++]);
    if (!bdev.ok()) return bdev.status();
    dependents.bdevs[bdev_name] = *std::move(bdev);
  }
  return dependents;
}

// A bdev may have moved between controllers of the same subsystem; only volumes that may be in
// these subsystems need to be queried.
std::vector<Uuid> SharedConnections::CandidatesOf(const Dependents& dependents,
                                                  const std::optional<Uuid>& except) {
  std::set<Uuid> candidates = bdevs_.FindCandidates(target_.generation(), dependents.nqns);
  if (except) candidates.erase(*except);
  std::vector<Uuid> present;
  for (const Uuid& id : candidates) {
    const std::optional<record::Volume> row = record_.FindVolume(id);
    if (!row) Forget(id);
    if (row && row->state != record::VolumeState::kDetaching) present.push_back(id);
  }
  return present;
}

// Queries the target in two round trips; in one if no other volume may depend on the connection,
// and its controllers were known.
absl::StatusOr<SharedConnections::Needed> SharedConnections::FindNeeded(const Context& context,
                                                                        const Except& except,
                                                                        const std::string& name) {
  absl::StatusOr<Dependents> dependents = FindDependents(context, name, /*with_bdevs=*/true);
  if (!dependents.ok()) return dependents.status();
  Needed needed;
  if (dependents->controllers.empty()) return needed;
  const std::vector<Uuid> candidates = CandidatesOf(*dependents, except.volume);
  if (absl::Status status = QueryBdevs(context, candidates, *dependents); !status.ok()) {
    return status;
  }
  for (const Uuid& id : candidates) {
    const std::optional<KnownBdev> known = bdevs_.Find(target_.generation(), id);
    if (known && dependents->controllers.contains(known->controller)) needed.volumes.insert(id);
  }
  needed.others = dependents->FindOtherUse([&](const Uuid& id) {
    return id == except.volume ? except.in_use : record_.FindVolume(id).has_value();
  });
  return needed;
}

absl::Status SharedConnections::RefreshBdevs(const Context& context,
                                             const std::vector<Uuid>& volumes) {
  std::vector<Uuid> unknown;
  for (const Uuid& id : volumes) {
    const std::optional<KnownBdev> known = bdevs_.Find(target_.generation(), id);
    const bool is_known = known && !known->controller.empty() &&
                          controllers_.Find(target_.generation(), known->controller);
    if (!is_known) unknown.push_back(id);
  }
  return QueryBdevs(context, unknown);
}

absl::Status SharedConnections::QueryBdevs(const Context& context,
                                           const std::vector<Uuid>& volumes) {
  Dependents none;
  return QueryBdevs(context, volumes, none);
}

// Queries the bdevs of `volumes` and, in the same batches, those of `dependents` that were not
// queried yet.
absl::Status SharedConnections::QueryBdevs(const Context& context, const std::vector<Uuid>& volumes,
                                           Dependents& dependents) {
  std::set<std::string> names = names_.Of(dependents.controllers);
  for (const spdk::VhostController& vhost : dependents.vhosts) {
    if (dependents.Has(vhost.bdev_name)) names.insert(vhost.bdev_name);
  }
  std::vector<std::string> queried;
  for (const Uuid& id : volumes) queried.push_back(id.ToString());
  for (const std::string& name : names) {
    if (!dependents.bdevs.contains(name)) queried.push_back(name);
  }
  for (size_t begin = 0; begin < queried.size(); begin += kMaxQueries) {
    const size_t end = std::min(begin + kMaxQueries, queried.size());
    std::vector<Request> requests;
    for (size_t i = begin; i < end; ++i) requests.push_back(spdk::GetBdev(queried[i]));
    const uint64_t generation = target_.generation();
    const spdk::Results answers = target_.CallMany(context, requests);
    for (size_t i = begin; i < end; ++i) {
      absl::StatusOr<std::optional<spdk::Bdev>> bdev = spdk::ParseBdev(answers[i - begin]);
      if (!bdev.ok()) return bdev.status();
      if (i < volumes.size()) {
        NoteBdev(generation, volumes[i], *bdev);
      } else {
        dependents.bdevs[queried[i]] = *std::move(bdev);
      }
    }
  }
  return absl::OkStatus();
}

absl::Status SharedConnections::RefreshServices(const Context& context) {
  const auto before = services_.snapshot(target_.generation());
  const absl::StatusOr<jsonrpc::Json> answer = target_.Call(context, spdk::GetDiscoveryInfo());
  if (!answer.ok()) return answer.status();
  absl::StatusOr<std::vector<spdk::DiscoveryService>> services = spdk::ParseDiscoveryInfo(*answer);
  if (!services.ok()) return services.status();
  services_.Replace(before, *std::move(services));
  return absl::OkStatus();
}

absl::Status SharedConnections::RefreshControllers(const Context& context) {
  return QueryControllers(context).status();
}

absl::StatusOr<std::vector<spdk::Controller>> SharedConnections::QueryControllers(
    const Context& context) {
  const auto before = controllers_.snapshot(target_.generation());
  const absl::StatusOr<jsonrpc::Json> answer = target_.Call(context, spdk::GetControllers());
  if (!answer.ok()) return answer.status();
  absl::StatusOr<std::vector<spdk::Controller>> controllers = spdk::ParseControllers(*answer);
  if (controllers.ok()) controllers_.Replace(before, *controllers);
  return controllers;
}

absl::Status SharedConnections::CheckNamespace(const Uuid& volume) const {
  const std::optional<KnownBdev> known = bdevs_.Find(target_.generation(), volume);
  if (!known || !known->is_there || known->is_namespace) return absl::OkStatus();
  return absl::AlreadyExistsError(
      fmt::format("volume {}: the target has bdev {} under this UUID, which does not come from the "
                  "volume's storage node",
                  volume.ToString(), known->name));
}

bool SharedConnections::IsMissing(const Uuid& volume) const {
  const std::optional<KnownBdev> known = bdevs_.Find(target_.generation(), volume);
  return known && !known->is_there;
}

std::string SharedConnections::ControllerOf(const Uuid& volume) const {
  const std::optional<KnownBdev> known = bdevs_.Find(target_.generation(), volume);
  return known ? known->controller : std::string();
}

std::set<RemotePath> SharedConnections::LostPathsOf(const Uuid& volume) const {
  const std::optional<KnownBdev> known = bdevs_.Find(target_.generation(), volume);
  if (!known || !known->is_namespace || known->controller.empty()) return {};
  const auto controller = controllers_.Find(target_.generation(), known->controller);
  if (!controller) return {};
  std::set<RemotePath> lost = bdevs_.PathsOf(volume);
  bool any_up = false;
  for (const spdk::ControllerPath& path : controller->paths) {
    lost.erase(RemotePath::Of(path.address, path.subnqn));
    any_up |= path.is_up();
  }
  return any_up ? lost : std::set<RemotePath>();
}

bool SharedConnections::IsElsewhere(const Uuid& volume, const RemotePath& lost) const {
  const std::optional<KnownBdev> known = bdevs_.Find(target_.generation(), volume);
  if (!known || Contains(known->subsystem_nqns, lost.subnqn)) return false;
  auto is_up = [&](const spdk::Controller& controller) {
    return std::any_of(controller.paths.begin(), controller.paths.end(), [&](const auto& path) {
      return path.is_up() && RemotePath::Of(path.address, path.subnqn) == lost;
    });
  };
  return controllers_.FindIf(target_.generation(), is_up).has_value();
}

std::optional<PathCount> SharedConnections::PathsOf(const Uuid& volume) const {
  const std::optional<KnownBdev> known = bdevs_.Find(target_.generation(), volume);
  if (!known || known->controller.empty()) return std::nullopt;
  const std::optional<spdk::Controller> controller =
      controllers_.Find(target_.generation(), known->controller);
  if (!controller) return std::nullopt;
  // A path that the target no longer has is one that is down: it was lost, or not yet restored.
  std::set<RemotePath> all = bdevs_.PathsOf(volume);
  PathCount count;
  for (const spdk::ControllerPath& path : controller->paths) {
    all.insert(RemotePath::Of(path.address, path.subnqn));
    count.up += path.is_up() ? 1 : 0;
  }
  count.total = static_cast<uint32_t>(all.size());
  return count;
}

}  // namespace sma::volume
