#include "agent/volume/shared_connections.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "agent/spdk/call.h"
#include "agent/volume/connection_names.h"

namespace sma::volume {

using base::Context;
using base::MutexLock;
using base::Uuid;
using jsonrpc::Request;

namespace {

// How many bdevs are asked for together.
constexpr size_t kMaxLookUps = 128;

// Names of services end with the character that keeps them apart from the number of a controller.
bool IsService(const std::string& name) { return name.ends_with('_'); }

}  // namespace

SharedConnections::SharedConnections(jsonrpc::Caller& target, record::Record& record)
    : target_(target), record_(record) {
  for (const record::Volume& row : record.Volumes()) {
    Track(row.id);
    for (const std::string& name : SharedNames::Parse(row.connection).All()) {
      counts_.Add(name, row.id);
    }
  }
}

std::optional<std::string> SharedConnections::FindByKey(std::string_view key) const {
  return counts_.FindUsed(key, [&](const std::string& name) { return KeyOf(name) == key; });
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
  if (held->users().empty()) return false;
  held->users().insert(volume);
  IsService(name) ? names.AddService(name) : names.AddController(name);
  return true;
}

// False: nobody uses the connections that a controller of this name would go with. They are
// another's, or have just been released.
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
  const std::optional<KnownBdev> known = FindBdev(volume);
  if (!known || known->controller.empty()) return absl::OkStatus();
  return CountController(context, volume, known->controller, names).status();
}

absl::Status SharedConnections::Leave(const Context& context, const Uuid& volume,
                                      const std::string& name, bool is_going) {
  absl::StatusOr<UseCounts::Held> held = Lock(context, name);
  if (!held.ok()) return held.status();
  held->users().erase(volume);
  if (!held->users().empty()) return absl::OkStatus();
  absl::StatusOr<std::set<Uuid>> hanging =
      FindHanging(context, is_going ? std::optional(volume) : std::nullopt, name);
  absl::Status status = hanging.status();
  if (status.ok() && !hanging->empty()) {
    held->users() = *hanging;
    for (const Uuid& other : *hanging) status.Update(KeepHanging(other, name));
    if (status.ok()) return status;
  }
  if (status.ok()) status = Disconnect(context, name);
  if (!status.ok()) held->users().insert(volume);
  return status;
}

absl::StatusOr<std::set<Uuid>> SharedConnections::UsersOf(const Context& context,
                                                          const std::string& name) {
  absl::StatusOr<UseCounts::Held> held = Lock(context, name);
  if (!held.ok()) return held.status();
  return held->users();
}

absl::StatusOr<bool> SharedConnections::IsIdle(const Context& context, const std::string& name) {
  absl::StatusOr<Reach> reach = ReachOf(context, name);
  if (!reach.ok()) return reach.status();
  return reach->controllers.empty();
}

absl::StatusOr<bool> SharedConnections::IsBare(const Context& context, const std::string& name) {
  absl::StatusOr<std::set<Uuid>> hanging = FindHanging(context, std::nullopt, name);
  if (!hanging.ok()) return hanging.status();
  return hanging->empty();
}

absl::StatusOr<bool> SharedConnections::IsLast(const Context& context, const Uuid& volume,
                                               const std::string& name) {
  absl::StatusOr<UseCounts::Held> held = Lock(context, name);
  if (!held.ok()) return held.status();
  const bool has_others = std::any_of(held->users().begin(), held->users().end(),
                                      [&](const Uuid& user) { return user != volume; });
  if (has_others) return false;
  absl::StatusOr<std::set<Uuid>> hanging = FindHanging(context, volume, name);
  if (!hanging.ok()) return hanging.status();
  return hanging->empty();
}

// So that an agent that starts after this one counts them, too.
absl::Status SharedConnections::KeepHanging(const Uuid& volume, const std::string& name) {
  std::optional<record::Volume> row = record_.FindVolume(volume);
  if (!row) return absl::OkStatus();
  SharedNames names = SharedNames::Parse(row->connection);
  IsService(name) ? names.AddService(name) : names.AddController(name);
  std::string text = names.ToText();
  if (text == row->connection) return absl::OkStatus();
  row->connection = std::move(text);
  record::Change change;
  change.put_volumes.push_back(*std::move(row));
  return record_.Write(std::move(change), record::Durability::kProcess);
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

absl::StatusOr<SharedConnections::Reach> SharedConnections::ReachOf(const Context& context,
                                                                    const std::string& name) {
  absl::StatusOr<std::vector<spdk::Controller>> controllers;
  if (IsService(name)) {
    controllers = AskControllers(context);
  } else {
    const Request request = spdk::GetController(name);
    absl::StatusOr<jsonrpc::Json> answer = std::move(target_.CallMany(context, {&request, 1})[0]);
    if (spdk::IsUnknownName(answer.status())) return Reach();
    if (!answer.ok()) return answer.status();
    controllers = spdk::ParseControllers(*answer);
  }
  if (!controllers.ok()) return controllers.status();
  Reach reach;
  for (const spdk::Controller& controller : *controllers) {
    if (controller.name != name && ServiceOfController(controller.name) != name) continue;
    reach.controllers.insert(controller.name);
    for (const spdk::ControllerPath& path : controller.paths) reach.nqns.insert(path.subnqn);
  }
  return reach;
}

// A bdev may have moved from one controller to another of the same subsystem: volumes of other
// subsystems need not be asked for.
std::vector<Uuid> SharedConnections::CandidatesFor(const Reach& reach,
                                                   const std::optional<Uuid>& except) {
  const uint64_t generation = target_.generation();
  std::set<Uuid> candidates;
  {
    MutexLock lock(mutex_);
    if (unknown_since_ != generation) {
      unknown_since_ = generation;
      for (const auto& [id, bdev] : bdevs_) {
        if (bdev.generation != generation) unknown_.insert(id);
      }
    }
    candidates = unknown_;
    for (const std::string& nqn : reach.nqns) {
      auto found = by_nqn_.find(nqn);
      if (found != by_nqn_.end()) candidates.insert(found->second.begin(), found->second.end());
    }
  }
  if (except) candidates.erase(*except);
  std::vector<Uuid> present;
  for (const Uuid& id : candidates) {
    const std::optional<record::Volume> row = record_.FindVolume(id);
    if (!row) Forget(id);
    if (row && row->state != record::VolumeState::kDetaching) present.push_back(id);
  }
  return present;
}

absl::StatusOr<std::set<Uuid>> SharedConnections::FindHanging(const Context& context,
                                                              const std::optional<Uuid>& except,
                                                              const std::string& name) {
  absl::StatusOr<Reach> reach = ReachOf(context, name);
  if (!reach.ok()) return reach.status();
  std::set<Uuid> hanging;
  if (reach->controllers.empty()) return hanging;
  const std::vector<Uuid> candidates = CandidatesFor(*reach, except);
  if (absl::Status status = LookUp(context, candidates); !status.ok()) return status;
  for (const Uuid& id : candidates) {
    const std::optional<KnownBdev> known = FindBdev(id);
    if (known && reach->controllers.contains(known->controller)) hanging.insert(id);
  }
  return hanging;
}

void SharedConnections::EraseIndex(const Uuid& volume) {
  auto known = bdevs_.find(volume);
  if (known == bdevs_.end()) return;
  for (const std::string& nqn : known->second.subsystem_nqns) {
    auto found = by_nqn_.find(nqn);
    if (found == by_nqn_.end()) continue;
    found->second.erase(volume);
    if (found->second.empty()) by_nqn_.erase(found);
  }
}

void SharedConnections::Track(const Uuid& volume) {
  MutexLock lock(mutex_);
  if (bdevs_.try_emplace(volume).second) unknown_.insert(volume);
}

void SharedConnections::Forget(const Uuid& volume) {
  MutexLock lock(mutex_);
  EraseIndex(volume);
  bdevs_.erase(volume);
  unknown_.erase(volume);
}

void SharedConnections::NoteBdev(uint64_t generation, const Uuid& volume,
                                 const std::optional<spdk::Bdev>& bdev) {
  KnownBdev known{.generation = generation,
                  .is_there = bdev.has_value(),
                  .controller = {},
                  .subsystem_nqns = {}};
  const bool is_complete = bdev && spdk::IsComplete(*bdev);
  if (bdev && bdev->is_nvme) {
    known.controller = ControllerOfBdev(bdev->name).value_or("");
    known.subsystem_nqns = bdev->subsystem_nqns;
  }
  MutexLock lock(mutex_);
  EraseIndex(volume);
  for (const std::string& nqn : known.subsystem_nqns) by_nqn_[nqn].insert(volume);
  bdevs_.insert_or_assign(volume, std::move(known));
  if (is_complete) {
    unknown_.erase(volume);
  } else {
    unknown_.insert(volume);
  }
}

std::optional<SharedConnections::KnownBdev> SharedConnections::FindBdev(const Uuid& volume) const {
  const uint64_t generation = target_.generation();
  MutexLock lock(mutex_);
  auto found = bdevs_.find(volume);
  if (found == bdevs_.end() || found->second.generation != generation) return std::nullopt;
  return found->second;
}

absl::Status SharedConnections::LookAtBdevs(const Context& context,
                                            const std::vector<Uuid>& volumes) {
  std::vector<Uuid> unknown;
  for (const Uuid& id : volumes) {
    const std::optional<KnownBdev> known = FindBdev(id);
    const bool is_known = known && !known->controller.empty() &&
                          controllers_.Find(target_.generation(), known->controller);
    if (!is_known) unknown.push_back(id);
  }
  return LookUp(context, unknown);
}

absl::Status SharedConnections::LookUp(const Context& context, const std::vector<Uuid>& volumes) {
  for (size_t begin = 0; begin < volumes.size(); begin += kMaxLookUps) {
    const size_t end = std::min(begin + kMaxLookUps, volumes.size());
    std::vector<Request> requests;
    for (size_t i = begin; i < end; ++i) requests.push_back(spdk::GetBdev(volumes[i].ToString()));
    const uint64_t generation = target_.generation();
    const spdk::Results answers = target_.CallMany(context, requests);
    for (size_t i = begin; i < end; ++i) {
      absl::StatusOr<std::optional<spdk::Bdev>> bdev = spdk::ParseBdev(answers[i - begin]);
      if (!bdev.ok()) return bdev.status();
      NoteBdev(generation, volumes[i], *bdev);
    }
  }
  return absl::OkStatus();
}

absl::Status SharedConnections::LookAtServices(const Context& context) {
  const auto mark = services_.mark(target_.generation());
  const Request request = spdk::GetDiscoveryInfo();
  const spdk::Results answers = target_.CallMany(context, {&request, 1});
  if (!answers[0].ok()) return answers[0].status();
  absl::StatusOr<std::vector<spdk::DiscoveryService>> services =
      spdk::ParseDiscoveryInfo(*answers[0]);
  if (!services.ok()) return services.status();
  services_.Replace(mark, *std::move(services));
  return absl::OkStatus();
}

absl::Status SharedConnections::LookAtControllers(const Context& context) {
  return AskControllers(context).status();
}

absl::StatusOr<std::vector<spdk::Controller>> SharedConnections::AskControllers(
    const Context& context) {
  const auto mark = controllers_.mark(target_.generation());
  const Request request = spdk::GetControllers();
  const spdk::Results answers = target_.CallMany(context, {&request, 1});
  if (!answers[0].ok()) return answers[0].status();
  absl::StatusOr<std::vector<spdk::Controller>> controllers = spdk::ParseControllers(*answers[0]);
  if (controllers.ok()) controllers_.Replace(mark, *controllers);
  return controllers;
}

bool SharedConnections::IsMissing(const Uuid& volume) const {
  const std::optional<KnownBdev> known = FindBdev(volume);
  return known && !known->is_there;
}

std::string SharedConnections::ControllerOf(const Uuid& volume) const {
  const std::optional<KnownBdev> known = FindBdev(volume);
  return known ? known->controller : std::string();
}

std::optional<PathCount> SharedConnections::PathsOf(const Uuid& volume) const {
  const std::optional<KnownBdev> known = FindBdev(volume);
  if (!known || known->controller.empty()) return std::nullopt;
  const std::optional<spdk::Controller> controller =
      controllers_.Find(target_.generation(), known->controller);
  if (!controller) return std::nullopt;
  PathCount count{.up = 0, .total = static_cast<uint32_t>(controller->paths.size())};
  for (const spdk::ControllerPath& path : controller->paths) count.up += path.is_up() ? 1 : 0;
  return count;
}

}  // namespace sma::volume
