// How devices are compared with the target and made again.

#include <fmt/format.h>

#include <map>
#include <set>
#include <utility>

#include "devices/nvmf_common/comparison.h"
#include "devices/nvmf_common/subsystem_devices.h"

namespace sma::nvmf_common {

using jsonrpc::Request;

namespace {

// What `actual` is like after all that could be done; `errors` says why what is missing still is.
void Judge(const SubsystemSpec& spec, const RestoreRequest& request, const spdk::Subsystem* actual,
           const absl::Status& first_error, RestoreResult& result) {
  Missing missing = FindMissing(spec, {}, actual);
  if (missing.any()) {
    result.status = !first_error.ok()
                        ? first_error
                        : absl::UnavailableError(fmt::format("{} is not complete on the target",
                                                             request.device.handle));
  }
  for (size_t i = 0; i < request.volumes.size(); ++i) {
    const spdk::Namespace* ns =
        actual == nullptr ? nullptr : FindNamespace(*actual, request.volumes[i].id);
    if (ns != nullptr) {
      result.volumes[i].attachment = std::to_string(ns->nsid);
    } else {
      result.volumes[i].attachment = absl::UnavailableError(fmt::format(
          "volume {} is not attached to {} on the target{}{}", request.volumes[i].id.ToString(),
          request.device.handle, first_error.ok() ? "" : ": ", std::string(first_error.message())));
    }
  }
}

// The first of the errors, without marks that only callers of the target use.
absl::Status FirstError(const spdk::Results& results) {
  for (const auto& result : results) {
    if (!result.ok()) return absl::Status(result.status().code(), result.status().message());
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<SubsystemListing>> SubsystemDevices::List(
    const base::Context& context) {
  uint64_t generation = target_.generation();
  const Request request = spdk::GetSubsystems();
  absl::StatusOr<jsonrpc::Json> answer = std::move(target_.CallMany(context, {&request, 1})[0]);
  if (!answer.ok()) return answer.status();
  absl::StatusOr<std::vector<spdk::Subsystem>> subsystems = spdk::ParseSubsystems(*answer);
  if (!subsystems.ok()) return subsystems.status();
  std::set<std::string, std::less<>> nqns;
  for (const spdk::Subsystem& subsystem : *subsystems) nqns.insert(subsystem.nqn);
  if (target_.generation() == generation) known_.Replace(generation, std::move(nqns));
  return std::make_unique<SubsystemListing>(*std::move(subsystems));
}

RestoreResult SubsystemDevices::Restore(const base::Context& context, const SubsystemSpec& spec,
                                        const RestoreRequest& request) {
  RestoreResult result;
  result.volumes.resize(request.volumes.size());
  std::optional<spdk::Subsystem> found;
  const spdk::Subsystem* actual = nullptr;
  auto look = [&]() -> absl::Status {
    absl::StatusOr<std::optional<spdk::Subsystem>> now =
        spdk::FindSubsystem(target_, context, spec.nqn);
    if (!now.ok()) return now.status();
    found = *std::move(now);
    actual = found ? &*found : nullptr;
    return absl::OkStatus();
  };
  if (request.listing != nullptr) {
    actual = static_cast<const SubsystemListing*>(request.listing)->Find(spec.nqn);
  } else if (absl::Status status = look(); !status.ok()) {
    Judge(spec, request, nullptr, status, result);
    return result;
  }

  result.differences = Differences(spec, request.volumes, actual);
  const Missing missing = FindMissing(spec, request.volumes, actual);
  absl::Status error;
  if (missing.any() && request.repair) {
    error = FirstError(SendMissing(context, spec, request, actual));
    if (absl::Status status = look(); !status.ok()) {
      Judge(spec, request, nullptr, status, result);
      return result;
    }
    if (actual != nullptr) known_.Add(spec.nqn);
    for (size_t i : missing.volumes) result.volumes[i].attached_again = true;
  }
  Judge(spec, request, actual, error, result);
  return result;
}

// In the order in which hosts may see it: they take a volume that is missing when they come back
// for removed, so that the listener is the last.
spdk::Results SubsystemDevices::SendMissing(const base::Context& context, const SubsystemSpec& spec,
                                            const RestoreRequest& request,
                                            const spdk::Subsystem* actual) {
  const std::string& nqn = spec.nqn;
  const Missing missing = FindMissing(spec, request.volumes, actual);
  std::vector<Request> requests;
  if (missing.subsystem) requests.push_back(spdk::CreateSubsystem(nqn, spec.allow_any_host));
  if (missing.any_host) requests.push_back(spdk::AllowAnyHost(nqn));
  for (const std::string& host : missing.hosts) requests.push_back(spdk::AddHost(nqn, host));
  std::set<uint32_t> taken;
  for (size_t i : missing.volumes) {
    // The same NSID as before, so that hosts find it where it was.
    spdk::Namespace ns = NamespaceOf(request.volumes[i]);
    ns.nsid = NsidOf(request.volumes[i].attachment);
    bool free = actual == nullptr || NamespaceAt(*actual, ns.nsid) == nullptr;
    if (!free || !taken.insert(ns.nsid).second) ns.nsid = 0;
    requests.push_back(spdk::AddNamespace(nqn, ns));
  }
  spdk::Results results;
  if (!requests.empty()) results = spdk::CallToEnd(target_, context, requests);
  bool complete = FirstError(results).ok();
  if (missing.listener && (complete || request.expose_incomplete)) {
    results.push_back(spdk::CallToEnd(target_, context, spdk::AddListener(nqn, spec.listener)));
  }
  return results;
}

}  // namespace sma::nvmf_common
