// How devices are compared with the target and made again.

#include <fmt/format.h>

#include <map>
#include <set>
#include <utility>

#include "devices/nvmf_tcp/comparison.h"
#include "devices/nvmf_tcp/nvmf_tcp_manager.h"
#include "devices/nvmf_tcp/params.h"
#include "jsonrpc/error.h"

namespace sma::nvmf_tcp {

using jsonrpc::Request;

namespace {

class Listing : public DeviceListing {
 public:
  explicit Listing(std::vector<spdk::Subsystem> subsystems) {
    for (spdk::Subsystem& subsystem : subsystems) {
      std::string nqn = subsystem.nqn;
      subsystems_.emplace(std::move(nqn), std::move(subsystem));
    }
  }

  const spdk::Subsystem* Find(const std::string& nqn) const {
    auto found = subsystems_.find(nqn);
    return found == subsystems_.end() ? nullptr : &found->second;
  }
  const std::map<std::string, spdk::Subsystem>& subsystems() const { return subsystems_; }

 private:
  std::map<std::string, spdk::Subsystem> subsystems_;
};

// What `actual` is like after all that could be done; `errors` says why what is missing still is.
void Judge(const RestoreRequest& request, const spdk::Subsystem* actual,
           const absl::Status& first_error, RestoreResult& result) {
  const DeviceParameters& params = request.device.params.nvmf_tcp();
  Missing missing = FindMissing(params, {}, actual);
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

absl::StatusOr<std::unique_ptr<DeviceListing>> NvmfTcpManager::List(const base::Context& context) {
  uint64_t generation = target_.generation();
  const Request request = spdk::GetSubsystems();
  absl::StatusOr<jsonrpc::Json> answer = std::move(target_.CallMany(context, {&request, 1})[0]);
  if (!answer.ok()) return answer.status();
  absl::StatusOr<std::vector<spdk::Subsystem>> subsystems = spdk::ParseSubsystems(*answer);
  if (!subsystems.ok()) return subsystems.status();
  std::set<std::string, std::less<>> nqns;
  for (const spdk::Subsystem& subsystem : *subsystems) nqns.insert(subsystem.nqn);
  if (target_.generation() == generation) known_.Replace(generation, std::move(nqns));
  return std::make_unique<Listing>(*std::move(subsystems));
}

RestoreResult NvmfTcpManager::Restore(const base::Context& context, const RestoreRequest& request) {
  const DeviceParameters& params = request.device.params.nvmf_tcp();
  RestoreResult result;
  result.volumes.resize(request.volumes.size());
  std::optional<spdk::Subsystem> found;
  const spdk::Subsystem* actual = nullptr;
  auto look = [&]() -> absl::Status {
    absl::StatusOr<std::optional<spdk::Subsystem>> now =
        spdk::FindSubsystem(target_, context, params.subnqn());
    if (!now.ok()) return now.status();
    found = *std::move(now);
    actual = found ? &*found : nullptr;
    return absl::OkStatus();
  };
  if (request.listing != nullptr) {
    actual = static_cast<const Listing*>(request.listing)->Find(params.subnqn());
  } else if (absl::Status status = look(); !status.ok()) {
    Judge(request, nullptr, status, result);
    return result;
  }

  result.differences = Differences(params, request.volumes, actual);
  const Missing missing = FindMissing(params, request.volumes, actual);
  absl::Status error;
  if (missing.any() && request.repair) {
    error = FirstError(SendMissing(context, request, actual));
    if (absl::Status status = look(); !status.ok()) {
      Judge(request, nullptr, status, result);
      return result;
    }
    if (actual != nullptr) known_.Add(params.subnqn());
    for (size_t i : missing.volumes) result.volumes[i].attached_again = true;
  }
  Judge(request, actual, error, result);
  return result;
}

// In the order in which hosts may see it: they take a volume that is missing when they come back
// for removed, so that the listener is the last.
spdk::Results NvmfTcpManager::SendMissing(const base::Context& context,
                                          const RestoreRequest& request,
                                          const spdk::Subsystem* actual) {
  const DeviceParameters& params = request.device.params.nvmf_tcp();
  const std::string& nqn = params.subnqn();
  const Missing missing = FindMissing(params, request.volumes, actual);
  std::vector<Request> requests;
  if (missing.subsystem) requests.push_back(spdk::CreateSubsystem(nqn, params.allow_any_host()));
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
    results.push_back(spdk::CallToEnd(target_, context, spdk::AddListener(nqn, AddressOf(params))));
  }
  return results;
}

std::vector<AdoptionCandidate> NvmfTcpManager::ListAdoptionCandidates(
    const DeviceListing& listing, std::span<const std::string> known) const {
  const std::set<std::string_view> ours(known.begin(), known.end());
  std::vector<AdoptionCandidate> candidates;
  for (const auto& [nqn, subsystem] : static_cast<const Listing&>(listing).subsystems()) {
    if (subsystem.is_discovery || ours.contains(HandleOf(nqn))) continue;
    AdoptionCandidate candidate;
    CreateDeviceRequest request;
    DeviceParameters& params = *request.mutable_nvmf_tcp();
    params.set_subnqn(nqn);
    params.set_allow_any_host(subsystem.allow_any_host);
    params.mutable_hosts()->Add(subsystem.hosts.begin(), subsystem.hosts.end());
    if (!subsystem.listeners.empty()) {
      params.set_adrfam(subsystem.listeners.front().adrfam);
      params.set_traddr(subsystem.listeners.front().traddr);
      params.set_trsvcid(subsystem.listeners.front().trsvcid);
    }
    absl::StatusOr<DeviceSpec> device = Describe(request);
    if (subsystem.listeners.size() != 1) {
      candidate.obstacle = fmt::format("has {} listeners, not one", subsystem.listeners.size());
    } else if (!device.ok()) {
      candidate.obstacle = std::string(device.status().message());
    } else if (!IsEqual(device->params.nvmf_tcp(), subsystem)) {
      candidate.obstacle = "its listener is not of NVMe/TCP";
    }
    candidate.device =
        device.ok() ? *std::move(device) : DeviceSpec{.handle = HandleOf(nqn), .params = request};
    for (const spdk::Namespace& ns : subsystem.namespaces) {
      if (!ns.uuid) continue;
      candidate.volumes.push_back(
          {.id = *ns.uuid, .bdev_name = ns.bdev_name, .attachment = std::to_string(ns.nsid)});
    }
    candidates.push_back(std::move(candidate));
  }
  return candidates;
}

}  // namespace sma::nvmf_tcp
