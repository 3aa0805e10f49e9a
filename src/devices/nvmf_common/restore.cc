// How devices are compared with the target and restored.

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "agent/spdk/bdev.h"
#include "devices/nvmf_common/attachment.h"
#include "devices/nvmf_common/comparison.h"
#include "devices/nvmf_common/subsystem_devices.h"

namespace sma::nvmf_common {

using jsonrpc::Request;

namespace {

/// What the target has of a device.
struct Actual {
  std::optional<spdk::Subsystem> subsystem;
  BdevNames bdev_names;  // of the request's volumes
};

// As far as the record knows them.
BdevNames RecordedNames(std::span<const DeviceVolume> volumes) {
  BdevNames names;
  for (const DeviceVolume& volume : volumes) {
    names.push_back(Attachment::Parse(volume.attachment).bdev_name);
  }
  return names;
}

// Whether the record does not tell by itself which namespaces export the volumes.
bool NeedsQuery(const spdk::Subsystem* subsystem, std::span<const DeviceVolume> volumes,
                const BdevNames& names) {
  if (subsystem == nullptr) return false;
  for (size_t i = 0; i < volumes.size(); ++i) {
    if (FindImpostor(*subsystem, volumes[i].id, names[i]) != nullptr) return true;
  }
  return false;
}

absl::StatusOr<Actual> QueryActual(jsonrpc::Caller& target, const base::Context& context,
                                   const std::string& nqn, std::span<const DeviceVolume> volumes) {
  std::vector<Request> requests{spdk::GetSubsystem(nqn)};
  for (const DeviceVolume& volume : volumes) requests.push_back(spdk::GetBdev(volume.bdev_name));
  const spdk::Results results = target.CallMany(context, requests);
  absl::StatusOr<std::optional<spdk::Subsystem>> subsystem = spdk::ParseSubsystem(results[0]);
  if (!subsystem.ok()) return subsystem.status();
  Actual actual{.subsystem = *std::move(subsystem), .bdev_names = {}};
  for (size_t i = 1; i < results.size(); ++i) {
    absl::StatusOr<std::optional<spdk::Bdev>> bdev = spdk::ParseBdev(results[i]);
    if (!bdev.ok()) return bdev.status();
    actual.bdev_names.push_back(*bdev ? (*bdev)->name : std::string());
  }
  return actual;
}

// What became of the volume, after all that could be done; `error` says why it is still missing.
absl::StatusOr<std::string> AttachmentOf(const RestoreRequest& request, size_t i,
                                         const spdk::Subsystem* subsystem,
                                         const BdevNames& bdev_names, const absl::Status& error) {
  const DeviceVolume& volume = request.volumes[i];
  if (subsystem != nullptr) {
    if (const spdk::Namespace* ns = FindNamespace(*subsystem, volume.id, bdev_names[i])) {
      return Attachment{.nsid = ns->nsid, .bdev_name = ns->bdev_name}.ToString();
    }
    if (const spdk::Namespace* ns = FindImpostor(*subsystem, volume.id, bdev_names[i])) {
      return absl::UnavailableError(
          fmt::format("volume {} is not attached to {}: namespace {} has its UUID but exports bdev "
                      "{}",
                      volume.id.ToString(), request.device.handle, ns->nsid, ns->bdev_name));
    }
  }
  return absl::UnavailableError(fmt::format("volume {} is not attached to {} on the target{}{}",
                                            volume.id.ToString(), request.device.handle,
                                            error.ok() ? "" : ": ", std::string(error.message())));
}

void FillResult(const SubsystemSpec& spec, const RestoreRequest& request,
                const spdk::Subsystem* subsystem, const BdevNames& bdev_names,
                const absl::Status& error, RestoreResult& result) {
  if (FindMissing(spec, subsystem).any()) {
    result.status = !error.ok() ? error
                                : absl::UnavailableError(fmt::format(
                                      "{} is not complete on the target", request.device.handle));
  }
  for (size_t i = 0; i < request.volumes.size(); ++i) {
    result.volumes[i].attachment = AttachmentOf(request, i, subsystem, bdev_names, error);
  }
  if (spec.serial_number.empty() && subsystem != nullptr) result.mark = subsystem->serial_number;
}

RestoreResult Failed(const RestoreRequest& request, const absl::Status& error) {
  RestoreResult result;
  result.status = error;
  for (size_t i = 0; i < request.volumes.size(); ++i) {
    result.volumes.push_back({.attachment = error});
  }
  return result;
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
  BdevNames bdev_names = RecordedNames(request.volumes);
  const spdk::Subsystem* subsystem = nullptr;
  Actual actual;
  auto query = [&]() -> absl::Status {
    absl::StatusOr<Actual> now = QueryActual(target_, context, spec.nqn, request.volumes);
    if (!now.ok()) return now.status();
    actual = *std::move(now);
    bdev_names = actual.bdev_names;
    subsystem = actual.subsystem ? &*actual.subsystem : nullptr;
    return absl::OkStatus();
  };
  if (request.listing != nullptr) {
    subsystem = static_cast<const SubsystemListing&>(*request.listing).Find(spec.nqn);
  }
  if (request.listing == nullptr || NeedsQuery(subsystem, request.volumes, bdev_names)) {
    if (absl::Status status = query(); !status.ok()) return Failed(request, status);
  }
  if (subsystem != nullptr && !IsOwned(spec, *subsystem)) {
    return Failed(request, NotOwned(spec.nqn));
  }
  if (subsystem == nullptr && !request.recreate) {
    RestoreResult result =
        Failed(request,
               absl::UnavailableError(fmt::format("subsystem {} is not on the target", spec.nqn)));
    result.is_device_missing = true;
    return result;
  }

  RestoreResult result;
  result.volumes.resize(request.volumes.size());
  const Missing missing = FindMissing(spec, subsystem, request.volumes, bdev_names);
  result.differences = Differences(spec, missing, request.volumes, subsystem);
  absl::Status error;
  if (missing.any() && request.repair) {
    error = FirstError(SendMissing(context, spec, request, bdev_names, subsystem));
    if (absl::Status status = query(); !status.ok()) {
      RestoreResult failed = Failed(request, status);
      failed.differences = std::move(result.differences);
      return failed;
    }
    if (subsystem != nullptr) known_.Add(spec.nqn);
    for (size_t i : missing.volumes) result.volumes[i].attached_again = true;
  }
  FillResult(spec, request, subsystem, bdev_names, error, result);
  return result;
}

// In the order in which hosts may see it: they take a volume that is missing when they come back
// for removed, so that the listener is the last.
spdk::Results SubsystemDevices::SendMissing(const base::Context& context, const SubsystemSpec& spec,
                                            const RestoreRequest& request,
                                            const BdevNames& bdev_names,
                                            const spdk::Subsystem* actual) {
  const std::string& nqn = spec.nqn;
  const Missing missing = FindMissing(spec, actual, request.volumes, bdev_names);
  std::vector<Request> requests;
  if (missing.subsystem) {
    requests.push_back(spdk::CreateSubsystem(nqn, spec.allow_any_host, spec.serial_number));
    // Nothing is added to a subsystem that somebody else has created meanwhile.
    spdk::Results created = spdk::CallToEnd(target_, context, requests);
    if (!created.front().ok()) return created;
    requests.clear();
  }
  if (missing.any_host) requests.push_back(spdk::AllowAnyHost(nqn));
  for (const std::string& host : missing.hosts) requests.push_back(spdk::AddHost(nqn, host));
  std::set<uint32_t> taken;
  for (size_t i : missing.volumes) {
    const DeviceVolume& volume = request.volumes[i];
    if (actual != nullptr && FindImpostor(*actual, volume.id, bdev_names[i]) != nullptr) continue;
    // The same NSID as before, so that hosts find it where it was.
    spdk::Namespace ns = NamespaceOf(volume);
    ns.nsid = Attachment::Parse(volume.attachment).nsid;
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
