// How a device is made, and what is undone when that fails.

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "devices/nvmf_common/attachment.h"
#include "devices/nvmf_common/comparison.h"
#include "devices/nvmf_common/subsystem_devices.h"
#include "jsonrpc/error.h"

namespace sma::nvmf_common {

using jsonrpc::Request;

namespace {

// The call that takes back `request`, which succeeded with `answer`; nullopt for one that changed
// nothing that could be taken back.
std::optional<Request> Inverse(const Request& request, const jsonrpc::Json& answer) {
  if (request.method == "nvmf_subsystem_add_ns") {
    absl::StatusOr<uint32_t> nsid = spdk::ParseNsid(answer);
    if (!nsid.ok()) return std::nullopt;
    return spdk::RemoveNamespace(request.params["nqn"].get<std::string>(), *nsid);
  }
  Request inverse = request;
  if (request.method == "nvmf_subsystem_add_host") {
    inverse.method = "nvmf_subsystem_remove_host";
  } else if (request.method == "nvmf_subsystem_add_listener") {
    inverse.method = "nvmf_subsystem_remove_listener";
  } else {
    return std::nullopt;
  }
  return inverse;
}

// The error of a call, with what it was about.
absl::Status Failure(const Request& request, const absl::Status& error) {
  std::string what;
  if (request.params.contains("host")) {
    what = fmt::format("host {}", request.params["host"].get<std::string>());
  } else if (request.params.contains("listen_address")) {
    const jsonrpc::Json& address = request.params["listen_address"];
    what = fmt::format("listener {}",
                       DescribeAddress({.trtype = "",
                                        .adrfam = "",
                                        .traddr = address["traddr"].get<std::string>(),
                                        .trsvcid = address.value("trsvcid", std::string())}));
  } else {
    return error;
  }
  return absl::Status(error.code(), fmt::format("{}: {}", what, std::string(error.message())));
}

absl::Status Exists(const std::string& nqn) {
  return absl::AlreadyExistsError(
      fmt::format("subsystem {} is on the target already and was not made by this agent", nqn));
}

}  // namespace

absl::StatusOr<std::optional<ExistingDevice>> SubsystemDevices::FindExisting(
    const base::Context& context, const SubsystemSpec& spec) {
  if (known_.IsAbsent(target_.generation(), spec.nqn)) return std::nullopt;
  absl::StatusOr<std::optional<spdk::Subsystem>> found =
      spdk::FindSubsystem(target_, context, spec.nqn);
  if (!found.ok()) return found.status();
  if (!*found) return std::nullopt;
  if (!IsEqual(spec, **found)) return Exists(spec.nqn);
  ExistingDevice existing;
  existing.volumes = VolumesOf(**found);
  existing.mark = (*found)->serial_number;
  return existing;
}

OutcomeOr<std::string> SubsystemDevices::Create(const base::Context& context,
                                                const SubsystemSpec& spec,
                                                const DeviceVolume* volume) {
  const std::string& nqn = spec.nqn;
  if (absl::Status status = Prepare(context); !status.ok()) return status;
  std::vector<Request> requests;
  BdevPlan* plan = volume != nullptr ? volume->plan : nullptr;
  if (plan != nullptr) requests = plan->TakeRequests();
  const size_t planned = requests.size();
  requests.push_back(spdk::CreateSubsystem(nqn, spec.allow_any_host, spec.serial_number));
  for (const std::string& host : spec.hosts) requests.push_back(spdk::AddHost(nqn, host));
  requests.push_back(spdk::AddListener(nqn, spec.listener));
  if (volume != nullptr) {
    requests.push_back(spdk::AddNamespace(nqn, NamespaceOf(*volume)));
    requests.push_back(spdk::GetBdev(volume->bdev_name));
  }

  spdk::Results results = spdk::CallToEnd(target_, context, requests);
  Outcome made;
  if (plan != nullptr) {
    made =
        plan->CheckResults(std::span(requests).first(planned), std::span(results).first(planned));
  }
  const std::span own_requests = std::span(requests).subspan(planned);
  const std::span own_results = std::span(results).subspan(planned);
  // What came of the bdev is not for this to find out.
  auto with_its_fate = [&made](Outcome outcome) {
    return made.is_unknown() ? Outcome::Unknown(outcome.status()) : outcome;
  };
  if (!own_results.front().ok()) {
    return with_its_fate(UndoRefused(nqn, own_requests, own_results));
  }

  // From here on the subsystem is ours: undoing is deleting it.
  known_.Add(nqn);
  OutcomeOr<std::string> attachment =
      made.ok() ? FinishCreate(context, spec, volume, own_requests, own_results) : made;
  Outcome outcome = attachment.ok() ? Outcome(context.status()) : attachment.outcome();
  if (!outcome.ok()) return with_its_fate(UndoCreated(std::move(outcome), nqn));
  return attachment;
}

// Finds out what came of the parts of a subsystem that was created; the attachment of its volume.
OutcomeOr<std::string> SubsystemDevices::FinishCreate(
    const base::Context& context, const SubsystemSpec& spec, const DeviceVolume* volume,
    std::span<const Request> requests, std::span<const absl::StatusOr<jsonrpc::Json>> results) {
  // The last two are about the volume.
  const size_t parts = results.size() - (volume != nullptr ? 2 : 0);
  for (size_t i = 1; i < parts; ++i) {
    if (!results[i].ok()) return Failure(requests[i], results[i].status());
  }
  if (volume == nullptr) return std::string();
  DeviceVolume ready = *volume;
  ready.plan = nullptr;
  const absl::StatusOr<jsonrpc::Json>& answer = results[parts];
  absl::StatusOr<std::optional<spdk::Bdev>> bdev = spdk::ParseBdev(results[parts + 1]);
  if (!answer.ok()) {
    if (!jsonrpc::GetTargetError(answer.status())) return answer.status();
    // A call that came too early for a target that does not keep the order is sent again.
    if (volume->plan != nullptr) return Attach(context, spec, ready);
    return AttachRefused(context, spec, ready, Query(context, spec.nqn, volume->bdev_name),
                         answer.status());
  }
  absl::StatusOr<uint32_t> nsid = spdk::ParseNsid(*answer);
  if (!nsid.ok()) return nsid.status();
  if (!bdev.ok()) return bdev.status();
  if (!*bdev) {
    return absl::UnavailableError(fmt::format("volume {} went away", volume->id.ToString()));
  }
  return Attachment{.nsid = *nsid, .bdev_name = (*bdev)->name}.ToString();
}

Outcome SubsystemDevices::UndoCreated(Outcome why, const std::string& nqn) {
  absl::Status undone = spdk::DoToEnd(target_, spdk::UndoContext(), spdk::DeleteSubsystem(nqn));
  if (!undone.ok() && !spdk::IsNoSuchSubsystem(undone)) {
    spdlog::warn("subsystem {} could not be deleted again: {}", nqn, undone.ToString());
    return Outcome::Unknown(why.status());
  }
  known_.Remove(nqn);
  // Nothing is left of it, whatever became of its parts.
  if (why.needs_setup()) return why;
  return Outcome::NotDone(why.status());
}

// The subsystem was not created, or it is not known whether it was. If it is there already, what
// was added went to another's.
Outcome SubsystemDevices::UndoRefused(const std::string& nqn, std::span<const Request> requests,
                                      std::span<const absl::StatusOr<jsonrpc::Json>> results) {
  const absl::Status& refusal = results.front().status();
  if (!jsonrpc::GetTargetError(refusal)) {
    Outcome outcome = refusal;
    if (outcome.is_unknown()) known_.Add(nqn);
    return outcome;
  }
  known_.Add(nqn);
  std::vector<Request> inverses;
  for (size_t i = 1; i < results.size(); ++i) {
    if (!results[i].ok()) continue;
    if (auto inverse = Inverse(requests[i], *results[i])) inverses.push_back(*std::move(inverse));
  }
  if (!inverses.empty()) {
    for (const auto& undone : spdk::CallToEnd(target_, spdk::UndoContext(), inverses)) {
      if (!undone.ok()) spdlog::error("{}: {}", nqn, undone.status().ToString());
    }
  }
  absl::StatusOr<std::optional<spdk::Subsystem>> found =
      spdk::FindSubsystem(target_, spdk::UndoContext(), nqn);
  if (found.ok() && *found) return Exists(nqn);
  if (found.ok()) known_.Remove(nqn);
  return Outcome::NotDone(refusal);
}

Outcome SubsystemDevices::UndoCreate(const base::Context& context, const SubsystemSpec& spec,
                                     const DeviceVolume* volume) {
  absl::StatusOr<std::optional<spdk::Subsystem>> found =
      spdk::FindSubsystem(target_, context, spec.nqn);
  if (!found.ok()) return found.status();
  if (!*found) {
    known_.Remove(spec.nqn);
    return absl::OkStatus();
  }
  known_.Add(spec.nqn);
  if (!IsOwned(spec, **found)) return RemoveIntended(context, spec, volume, **found);
  if (!IsPartOf(**found, spec, volume)) {
    spdlog::warn("{}: left alone, it has what a failed CreateDevice did not make", spec.nqn);
    return absl::OkStatus();
  }
  return Delete(context, spec);
}

// Somebody else created a subsystem of this NQN just before a CreateDevice whose answers nobody has
// seen: what the call added to it has to go. What was there already the target has refused to add
// again, but nobody knows any more which parts these were. A host or listener that the call asked
// for is taken for what the call added, because a tenant's host must not stay on another's
// subsystem. It is the owner's where his namespaces would be out of reach without it, or where his
// subsystem is just the one that was asked for, without a volume: then another agent has created
// it, and the call was refused as a whole.
Outcome SubsystemDevices::RemoveIntended(const base::Context& context, const SubsystemSpec& spec,
                                         const DeviceVolume* volume,
                                         const spdk::Subsystem& actual) {
  if (volume != nullptr) {
    if (Outcome outcome = Detach(context, spec, *volume); !outcome.ok()) return outcome;
  }
  if (volume == nullptr && IsEqual(spec, actual)) {
    spdlog::warn("{}: left alone, it was created by somebody else as it was asked for", spec.nqn);
    return absl::OkStatus();
  }
  const bool has_namespaces = HasOtherNamespaces(actual, volume);
  std::vector<Request> requests;
  if (!has_namespaces || actual.allow_any_host || !HasOnlyHosts(spec, actual)) {
    for (const std::string& host : spec.hosts) {
      if (std::count(actual.hosts.begin(), actual.hosts.end(), host) == 0) continue;
      requests.push_back(spdk::RemoveHost(spec.nqn, host));
    }
  }
  if (HasListener(spec, actual) && (!has_namespaces || !HasOnlyListener(spec, actual))) {
    requests.push_back(spdk::RemoveListener(spec.nqn, spec.listener));
  }
  if (requests.empty()) return absl::OkStatus();
  spdlog::warn("{}: {}: removing what an unfinished CreateDevice added to it", spec.nqn,
               std::string(NotOwned(spec.nqn).message()));
  for (const auto& result : spdk::CallToEnd(target_, context, requests)) {
    if (!result.ok() && !jsonrpc::GetTargetError(result.status())) return result.status();
  }
  return absl::OkStatus();
}

}  // namespace sma::nvmf_common
