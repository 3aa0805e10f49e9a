// SPDX-License-Identifier: Apache-2.0

#include "devices/nvmf_common/subsystem_devices.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "agent/spdk/call.h"
#include "agent/spdk/qos.h"
#include "devices/nvmf_common/attachment.h"
#include "devices/nvmf_common/comparison.h"
#include "devices/nvmf_common/inverse.h"
#include "devices/nvmf_common/listen_check.h"
#include "jsonrpc/error.h"

namespace sma::nvmf_common {

using jsonrpc::Request;

namespace {

// Returns the error of a request with the name of the object that it affects.
absl::Status Failure(const Request& request, const absl::Status& error) {
  if (request.params.contains("listen_address")) {
    return WithListenReason(spdk::ParseAddress(request.params["listen_address"]), error);
  }
  if (!request.params.contains("host")) return error;
  return absl::Status(error.code(),
                      fmt::format("host {}: {}", request.params["host"].get<std::string>(),
                                  std::string(error.message())));
}

absl::Status Exists(const std::string& nqn) {
  return absl::AlreadyExistsError(
      fmt::format("subsystem {} exists on the target and was not created by this agent", nqn));
}

}  // namespace

absl::Status SubsystemDevices::Prepare(const base::Context& context) {
  uint64_t generation = target_.generation();
  if (generation != 0 && prepared_generation_ == generation) return absl::OkStatus();
  absl::Status status = spdk::EnsureTransport(target_, context, transport_, transport_options_);
  if (status.ok()) prepared_generation_ = generation;
  return status;
}

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
  // The caller determines the outcome for the bdev.
  auto with_bdev_outcome = [&made](Outcome outcome) {
    return made.is_unknown() ? Outcome::Unknown(outcome.status()) : outcome;
  };
  if (!own_results.front().ok()) {
    return with_bdev_outcome(UndoRefused(nqn, own_requests, own_results));
  }

  // From here on the subsystem belongs to the agent, so a rollback deletes it.
  known_.Add(nqn);
  OutcomeOr<std::string> attachment =
      made.ok() ? FinishCreate(context, spec, volume, own_requests, own_results) : made;
  Outcome outcome = attachment.ok() ? Outcome(context.status()) : attachment.outcome();
  if (!outcome.ok()) return with_bdev_outcome(UndoCreated(std::move(outcome), nqn));
  return attachment;
}

// Checks the results for the parts of a subsystem that was created. Returns the attachment of its
// volume.
OutcomeOr<std::string> SubsystemDevices::FinishCreate(
    const base::Context& context, const SubsystemSpec& spec, const DeviceVolume* volume,
    std::span<const Request> requests, std::span<const absl::StatusOr<jsonrpc::Json>> results) {
  // The last two results concern the volume.
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
    // The request is sent again, because a target that does not keep the order may have executed it
    // before the bdev existed.
    if (volume->plan != nullptr) return Attach(context, spec, ready);
    return namespaces_.AfterRefusal(context, spec, ready, answer.status());
  }
  absl::StatusOr<uint32_t> nsid = spdk::ParseNsid(*answer);
  if (!nsid.ok()) return nsid.status();
  if (!bdev.ok()) return bdev.status();
  if (!*bdev) {
    return absl::UnavailableError(
        fmt::format("volume {} was removed from the target", volume->id.ToString()));
  }
  return Attachment{.nsid = *nsid, .bdev_name = (*bdev)->name}.ToString();
}

Outcome SubsystemDevices::UndoCreated(Outcome why, const std::string& nqn) {
  absl::Status undone = spdk::DoToEnd(target_, spdk::UndoContext(), spdk::DeleteSubsystem(nqn));
  if (!undone.ok() && !spdk::IsNoSuchSubsystem(undone)) {
    spdlog::warn("subsystem {} could not be rolled back, will retry: {}", nqn, undone.ToString());
    return Outcome::Unknown(why.status());
  }
  known_.Remove(nqn);
  // Nothing remains, regardless of the outcome of the parts.
  if (why.needs_setup()) return why;
  return Outcome::NotDone(why.status());
}

// Rolls back after the subsystem was not created or the outcome is unknown. If the subsystem
// already existed, the parts were added to another client's subsystem.
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
  bool is_undone = true;
  for (size_t i = 1; i < results.size(); ++i) {
    if (Outcome(results[i].status()).is_unknown()) is_undone = false;
    if (!results[i].ok()) continue;
    if (auto inverse = InverseOf(requests[i], *results[i])) inverses.push_back(*std::move(inverse));
  }
  if (!inverses.empty()) {
    for (const auto& undone : spdk::CallToEnd(target_, spdk::UndoContext(), inverses)) {
      if (undone.ok()) continue;
      spdlog::warn("{}: rollback failed, will retry: {}", nqn, undone.status().ToString());
      is_undone = false;
    }
  }
  absl::StatusOr<std::optional<spdk::Subsystem>> found =
      spdk::FindSubsystem(target_, spdk::UndoContext(), nqn);
  if (found.ok() && !*found) {
    known_.Remove(nqn);
    return Outcome::NotDone(refusal);
  }
  const absl::Status why = found.ok() ? Exists(nqn) : refusal;
  // UndoCreate settles this later, because a tenant's host or volume must not remain on another
  // client's subsystem.
  return is_undone ? Outcome::NotDone(why) : Outcome::Unknown(why);
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
    spdlog::warn(
        "{}: not removed, because it has parts that the failed CreateDevice did not create",
        spec.nqn);
    return absl::OkStatus();
  }
  return Delete(context, spec);
}

// Handles the case that another client created a subsystem with this NQN just before a CreateDevice
// whose answers were lost: the parts that the call added to it must be removed. The target refused
// to add parts that existed already, but which ones these were is no longer known. A host or
// listener of the request is assumed to have been added by the call, because a tenant's host must
// not remain on another client's subsystem. It is assumed to belong to the owner if the subsystem's
// namespaces would be unreachable without it, or if the subsystem is exactly the requested one
// without a volume, in which case another agent has created it and the call was rejected
// completely.
Outcome SubsystemDevices::RemoveIntended(const base::Context& context, const SubsystemSpec& spec,
                                         const DeviceVolume* volume,
                                         const spdk::Subsystem& actual) {
  const bool has_volume = std::any_of(
      actual.namespaces.begin(), actual.namespaces.end(),
      [&](const spdk::Namespace& ns) { return volume != nullptr && ns.uuid == volume->id; });
  if (IsEqual(spec, actual) && has_volume == (volume != nullptr) &&
      !(has_volume && HasOtherNamespaces(actual, volume))) {
    spdlog::warn("{}: not removed, another client has created it exactly as requested", spec.nqn);
    return absl::OkStatus();
  }
  // Null if a namespace with the volume's UUID belongs to the owner.
  const DeviceVolume* removed = volume;
  if (volume != nullptr) {
    Outcome outcome = namespaces_.Detach(context, spec, *volume);
    if (!outcome.ok()) return outcome;
    if (outcome.was_gone()) removed = nullptr;
  }
  const bool has_namespaces = HasOtherNamespaces(actual, removed);
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
  spdlog::warn("{}: {}: removing the objects that an unfinished CreateDevice added", spec.nqn,
               std::string(NotOwned(spec.nqn).message()));
  for (const auto& result : spdk::CallToEnd(target_, context, requests)) {
    if (!result.ok() && !jsonrpc::GetTargetError(result.status())) return result.status();
  }
  return absl::OkStatus();
}

// A deletion cannot be rolled back, and the NQN may belong to another client's subsystem by now, so
// the target is queried first.
Outcome SubsystemDevices::Delete(const base::Context& context, const SubsystemSpec& spec) {
  absl::StatusOr<std::optional<spdk::Subsystem>> found =
      spdk::FindSubsystem(target_, context, spec.nqn);
  if (!found.ok()) return found.status();
  if (*found && !IsOwned(spec, **found)) {
    spdlog::warn("{}: not removed: {}", spec.nqn, std::string(NotOwned(spec.nqn).message()));
    known_.Add(spec.nqn);
    return absl::OkStatus();
  }
  if (*found) {
    // The namespaces are deleted with the subsystem.
    absl::Status status = spdk::DoToEnd(target_, context, spdk::DeleteSubsystem(spec.nqn));
    if (!status.ok() && !spdk::IsNoSuchSubsystem(status)) {
      if (!jsonrpc::GetTargetError(status)) return status;
      found = spdk::FindSubsystem(target_, context, spec.nqn);
      if (!found.ok() || found->has_value()) return status;
    }
  }
  known_.Remove(spec.nqn);
  return absl::OkStatus();
}

Outcome SubsystemDevices::SetQos(const base::Context& context, const DeviceVolume* volume,
                                 const QosLimit& maximum) {
  if (volume == nullptr)
    return absl::UnimplementedError(
        "limits can only be set on the volumes of a device, not on the device itself");
  absl::StatusOr<spdk::RateLimits> limits = spdk::ToRateLimits(maximum);
  if (!limits.ok()) return limits.status();
  return spdk::SetQosLimits(target_, context, volume->bdev_name, *limits);
}

GetQosCapabilitiesResponse SubsystemDevices::QosCapabilities() {
  GetQosCapabilitiesResponse response;
  *response.mutable_max_volume_caps() = spdk::BdevQosCapabilities();
  return response;
}

std::vector<DeviceVolume> VolumesOf(const spdk::Subsystem& subsystem) {
  std::vector<DeviceVolume> volumes;
  for (const spdk::Namespace& ns : subsystem.namespaces) {
    volumes.push_back(
        {.id = ns.uuid.value_or(base::Uuid()),
         .bdev_name = ns.bdev_name,
         .attachment = Attachment{.nsid = ns.nsid, .bdev_name = ns.bdev_name}.ToString()});
  }
  return volumes;
}

}  // namespace sma::nvmf_common
