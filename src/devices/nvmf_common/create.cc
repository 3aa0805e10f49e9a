// How a device is made, and what is undone when that fails.

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "devices/nvmf_common/comparison.h"
#include "devices/nvmf_common/subsystem_devices.h"
#include "jsonrpc/error.h"

namespace sma::nvmf_common {

using jsonrpc::Request;

namespace {

// The call that takes back `request`, which succeeded with `answer`; nullopt for one that changed
// nothing that could be taken back.
std::optional<Request> Inverse(const Request& request, const jsonrpc::Json& answer) {
  const std::string nqn = request.params["nqn"].get<std::string>();
  if (request.method == "nvmf_subsystem_add_ns") {
    absl::StatusOr<uint32_t> nsid = spdk::ParseNsid(answer);
    if (!nsid.ok()) return std::nullopt;
    return spdk::RemoveNamespace(nqn, *nsid);
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
  requests.push_back(spdk::CreateSubsystem(nqn, spec.allow_any_host));
  for (const std::string& host : spec.hosts) requests.push_back(spdk::AddHost(nqn, host));
  requests.push_back(spdk::AddListener(nqn, spec.listener));
  if (volume != nullptr) requests.push_back(spdk::AddNamespace(nqn, NamespaceOf(*volume)));

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
      made.ok() ? FinishCreate(context, nqn, volume, own_requests, own_results) : made;
  Outcome outcome = attachment.ok() ? Outcome(context.status()) : attachment.outcome();
  if (!outcome.ok()) return with_its_fate(UndoCreated(std::move(outcome), nqn));
  return attachment;
}

// Looks what came of the parts of a subsystem that was created; what its volume is attached as.
OutcomeOr<std::string> SubsystemDevices::FinishCreate(
    const base::Context& context, const std::string& nqn, const DeviceVolume* volume,
    std::span<const Request> requests, std::span<const absl::StatusOr<jsonrpc::Json>> results) {
  for (size_t i = 1; i < results.size(); ++i) {
    if (results[i].ok()) continue;
    bool is_volume = volume != nullptr && i + 1 == results.size();
    if (!is_volume || !jsonrpc::GetTargetError(results[i].status())) {
      return Failure(requests[i], results[i].status());
    }
    if (volume->plan == nullptr) return AttachRefused(context, nqn, *volume, results[i].status());
    // One that came too early for a target that does not keep the order is sent again.
    DeviceVolume ready = *volume;
    ready.plan = nullptr;
    return Attach(context, nqn, ready);
  }
  if (volume == nullptr) return std::string();
  absl::StatusOr<uint32_t> nsid = spdk::ParseNsid(*results.back());
  if (!nsid.ok()) return nsid.status();
  return std::to_string(*nsid);
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
  if (!IsPartOf(**found, spec, volume)) {
    spdlog::warn("{}: left alone, it has what a failed CreateDevice did not make", spec.nqn);
    known_.Add(spec.nqn);
    return absl::OkStatus();
  }
  return Delete(context, spec.nqn);
}

}  // namespace sma::nvmf_common
