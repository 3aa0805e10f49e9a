// SPDX-License-Identifier: Apache-2.0

#include "devices/nvmf_common/restore.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "agent/spdk/bdev.h"
#include "agent/spdk/call.h"
#include "devices/nvmf_common/attachment.h"
#include "devices/nvmf_common/comparison.h"
#include "devices/nvmf_common/inverse.h"
#include "devices/nvmf_common/listen_check.h"
#include "devices/nvmf_common/listing.h"
#include "devices/nvmf_common/namespaces.h"

namespace sma::nvmf_common {

using jsonrpc::Request;

namespace {

/// The state of a device on the target.
struct Actual {
  std::optional<spdk::Subsystem> subsystem;
  BdevNames bdev_names;  // of the request's volumes
};

// Returns those names of the bdevs that are recorded.
BdevNames RecordedNames(std::span<const DeviceVolume> volumes) {
  BdevNames names;
  for (const DeviceVolume& volume : volumes) {
    names.push_back(Attachment::Parse(volume.attachment).bdev_name);
  }
  return names;
}

// Returns true if the record does not suffice to determine which namespaces export the volumes.
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

// Returns the attachment of the volume after all repairs, or an error if it is still missing;
// `error` is the reason.
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

// Returns the first error, without markers that only callers of the target use.
absl::Status FirstError(std::span<const absl::StatusOr<jsonrpc::Json>> results) {
  for (const auto& result : results) {
    if (!result.ok()) return absl::Status(result.status().code(), result.status().message());
  }
  return absl::OkStatus();
}

/// The result of sending what is missing.
struct Sent {
  absl::Status error{};             // the first one
  std::optional<Actual> actual{};   // if the answers show all of it
  std::vector<Request> inverses{};  // roll back the parts that were added
};

// Notes how to roll back those of `requests` that succeeded.
void AddInverses(std::span<const Request> requests,
                 std::span<const absl::StatusOr<jsonrpc::Json>> results, Sent& sent) {
  for (size_t i = 0; i < requests.size(); ++i) {
    if (!results[i].ok()) continue;
    if (auto inverse = InverseOf(requests[i], *results[i])) {
      sent.inverses.push_back(*std::move(inverse));
    }
  }
}

// Returns the requests that add the missing parts of a subsystem, except its listener. `actual` is
// null if the subsystem has just been created.
std::vector<Request> PartsOf(const SubsystemSpec& spec, const RestoreRequest& request,
                             const Missing& missing, const BdevNames& bdev_names,
                             const spdk::Subsystem* actual) {
  std::vector<Request> requests;
  if (missing.any_host) requests.push_back(spdk::AllowAnyHost(spec.nqn));
  for (const std::string& host : missing.hosts) requests.push_back(spdk::AddHost(spec.nqn, host));
  std::set<uint32_t> taken;
  for (size_t i : missing.volumes) {
    const DeviceVolume& volume = request.volumes[i];
    if (actual != nullptr && FindImpostor(*actual, volume.id, bdev_names[i]) != nullptr) continue;
    // Uses the same NSID as before, because hosts identify the namespace by it.
    spdk::Namespace ns = NamespaceOf(volume);
    ns.nsid = Attachment::Parse(volume.attachment).nsid;
    bool free = actual == nullptr || NamespaceAt(*actual, ns.nsid) == nullptr;
    if (!free || !taken.insert(ns.nsid).second) ns.nsid = 0;
    requests.push_back(spdk::AddNamespace(spec.nqn, ns));
  }
  return requests;
}

// Returns the state of a subsystem that was just created with all its parts and its listener,
// according to the answers to the requests for the volumes' namespaces and bdevs; nullopt if the
// answers do not show it.
std::optional<Actual> CreatedAs(const SubsystemSpec& spec, const std::string& serial_number,
                                std::span<const DeviceVolume> volumes,
                                std::span<const absl::StatusOr<jsonrpc::Json>> namespaces,
                                std::span<const absl::StatusOr<jsonrpc::Json>> bdevs) {
  Actual actual;
  spdk::Subsystem& subsystem = actual.subsystem.emplace();
  subsystem.nqn = spec.nqn;
  subsystem.serial_number = serial_number;
  subsystem.allow_any_host = spec.allow_any_host;
  subsystem.hosts = spec.hosts;
  subsystem.listeners = {spec.listener};
  for (size_t i = 0; i < volumes.size(); ++i) {
    absl::StatusOr<uint32_t> nsid = spdk::ParseNsid(*namespaces[i]);
    absl::StatusOr<std::optional<spdk::Bdev>> bdev = spdk::ParseBdev(bdevs[i]);
    if (!nsid.ok() || !bdev.ok() || !*bdev) return std::nullopt;
    spdk::Namespace& ns = subsystem.namespaces.emplace_back(NamespaceOf(volumes[i]));
    ns.nsid = *nsid;
    ns.bdev_name = (*bdev)->name;
    actual.bdev_names.push_back((*bdev)->name);
  }
  return actual;
}

// Returns the subsystem after the listener was added, or nullopt if that is not known.
std::optional<spdk::Subsystem> AddListener(jsonrpc::Caller& target, const base::Context& context,
                                           const SubsystemSpec& spec, Sent& sent) {
  const Request requests[] = {spdk::AddListener(spec.nqn, spec.listener),
                              spdk::GetSubsystem(spec.nqn)};
  const spdk::Results results = spdk::CallToEnd(target, context, requests);
  AddInverses(requests, results, sent);
  absl::Status added = results[0].status();
  if (!added.ok()) added = WithListenReason(spec.listener, added);
  sent.error.Update(absl::Status(added.code(), added.message()));
  return spdk::ParseSubsystem(results[1]).value_or(std::nullopt);
}

// Creates the subsystem with its volumes, then its listener.
Sent Recreate(jsonrpc::Caller& target, const base::Context& context, const SubsystemSpec& spec,
              const RestoreRequest& request) {
  // A device in a record of an earlier version has no serial number.
  const std::string serial_number =
      spec.serial_number.empty() ? NewSerialNumber() : spec.serial_number;
  // Nothing is added to a subsystem that another client has created meanwhile.
  const Request creation[] = {spdk::CreateSubsystem(spec.nqn, spec.allow_any_host, serial_number)};
  absl::Status created = FirstError(spdk::CallToEnd(target, context, creation));
  if (!created.ok()) return {.error = created};
  const size_t volume_count = request.volumes.size();
  const Missing missing =
      FindMissing(spec, nullptr, request.volumes, RecordedNames(request.volumes));
  std::vector<Request> requests = PartsOf(spec, request, missing, {}, nullptr);
  const size_t parts = requests.size();
  for (const DeviceVolume& volume : request.volumes) {
    requests.push_back(spdk::GetBdev(volume.bdev_name));
  }
  spdk::Results results;
  if (!requests.empty()) results = spdk::CallToEnd(target, context, requests);
  const std::span answers(results);
  Sent sent{.error = FirstError(answers.first(parts))};
  AddInverses(std::span(requests).first(parts), answers.first(parts), sent);
  const bool is_complete = sent.error.ok();
  if (!is_complete && !request.expose_incomplete) return sent;
  const std::optional<spdk::Subsystem> now = AddListener(target, context, spec, sent);
  if (sent.error.ok() && now && now->serial_number == serial_number) {
    sent.actual =
        CreatedAs(spec, serial_number, request.volumes,
                  answers.subspan(parts - volume_count, volume_count), answers.last(volume_count));
  }
  return sent;
}

// Ordered by what hosts see: reconnecting hosts treat a missing volume as removed, so the listener
// is added last.
Sent SendMissing(jsonrpc::Caller& target, const base::Context& context, const SubsystemSpec& spec,
                 const RestoreRequest& request, const BdevNames& bdev_names,
                 const spdk::Subsystem* actual) {
  if (actual == nullptr) return Recreate(target, context, spec, request);
  const Missing missing = FindMissing(spec, actual, request.volumes, bdev_names);
  const std::vector<Request> requests = PartsOf(spec, request, missing, bdev_names, actual);
  Sent sent;
  if (!requests.empty()) {
    const spdk::Results results = spdk::CallToEnd(target, context, requests);
    AddInverses(requests, results, sent);
    sent.error = FirstError(results);
  }
  if (missing.listener && (sent.error.ok() || request.expose_incomplete)) {
    AddListener(target, context, spec, sent);
  }
  return sent;
}

// Rolls back what was added to a subsystem that another client created while the parts were sent.
absl::Status UndoSent(jsonrpc::Caller& target, const SubsystemSpec& spec, const Sent& sent) {
  spdlog::warn("{}: {}: removing what was added to it", spec.nqn,
               std::string(NotOwned(spec.nqn).message()));
  if (!sent.inverses.empty()) {
    for (const auto& result : spdk::CallToEnd(target, spdk::UndoContext(), sent.inverses)) {
      if (result.ok()) continue;
      spdlog::warn("{}: rollback failed: {}", spec.nqn, result.status().ToString());
    }
  }
  return NotOwned(spec.nqn);
}

}  // namespace

RestoreResult RestoreSubsystem(jsonrpc::Caller& target, const base::Context& context,
                               KnownSubsystems& known, const SubsystemSpec& spec,
                               const RestoreRequest& request) {
  BdevNames bdev_names = RecordedNames(request.volumes);
  const spdk::Subsystem* subsystem = nullptr;
  Actual actual;
  auto use = [&](Actual now) {
    actual = std::move(now);
    bdev_names = actual.bdev_names;
    subsystem = actual.subsystem ? &*actual.subsystem : nullptr;
  };
  auto query = [&]() -> absl::Status {
    absl::StatusOr<Actual> now = QueryActual(target, context, spec.nqn, request.volumes);
    if (now.ok()) use(*std::move(now));
    return now.status();
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
    Sent sent = SendMissing(target, context, spec, request, bdev_names, subsystem);
    error = std::move(sent.error);
    if (sent.actual) {
      use(*std::move(sent.actual));
    } else if (absl::Status status = query(); !status.ok()) {
      RestoreResult failed = Failed(request, status);
      failed.differences = std::move(result.differences);
      return failed;
    }
    if (subsystem != nullptr && !IsOwned(spec, *subsystem)) {
      return Failed(request, UndoSent(target, spec, sent));
    }
    if (subsystem != nullptr) known.Add(spec.nqn);
    for (size_t i : missing.volumes) result.volumes[i].attached_again = true;
  }
  FillResult(spec, request, subsystem, bdev_names, error, result);
  return result;
}

}  // namespace sma::nvmf_common
