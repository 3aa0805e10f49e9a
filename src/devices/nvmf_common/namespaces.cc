// SPDX-License-Identifier: Apache-2.0

#include "devices/nvmf_common/namespaces.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <utility>

#include "agent/spdk/call.h"
#include "devices/nvmf_common/attachment.h"
#include "devices/nvmf_common/comparison.h"
#include "jsonrpc/error.h"

namespace sma::nvmf_common {

using jsonrpc::Request;

namespace {

absl::Status VolumeError(absl::StatusCode code, const DeviceVolume& volume, std::string_view what) {
  return absl::Status(code, fmt::format("volume {} {}", volume.id.ToString(), what));
}

Outcome NotOnTarget(const std::string& nqn) {
  return Outcome::DeviceMissing(
      absl::UnavailableError(fmt::format("subsystem {} is not on the target", nqn)));
}

absl::Status IsImpostor(const DeviceVolume& volume, const std::string& nqn,
                        const spdk::Namespace& ns) {
  return VolumeError(
      absl::StatusCode::kAlreadyExists, volume,
      fmt::format("cannot be attached: namespace {} of {} has its UUID but exports bdev {}",
                  ns.nsid, nqn, ns.bdev_name));
}

// Returns the namespace of `subsystem` that exports the volume, by the bdev's name from the target
// or the record; null if there is none.
const spdk::Namespace* FindExported(const spdk::Subsystem& subsystem, const DeviceVolume& volume,
                                    const std::optional<spdk::Bdev>& bdev) {
  if (bdev) return FindNamespace(subsystem, volume.id, bdev->name);
  const Attachment attachment = Attachment::Parse(volume.attachment);
  return FindNamespace(subsystem, volume.id, attachment.bdev_name);
}

}  // namespace

absl::Status NotOwned(const std::string& nqn) {
  return absl::AlreadyExistsError(
      fmt::format("subsystem {} on the target is not the one that this agent created", nqn));
}

absl::StatusOr<Namespaces::Found> Namespaces::ParseFound(
    const absl::StatusOr<jsonrpc::Json>& subsystem, const absl::StatusOr<jsonrpc::Json>& bdev) {
  absl::StatusOr<std::optional<spdk::Subsystem>> found = spdk::ParseSubsystem(subsystem);
  if (!found.ok()) return found.status();
  absl::StatusOr<std::optional<spdk::Bdev>> exported = spdk::ParseBdev(bdev);
  if (!exported.ok()) return exported.status();
  return Found{.subsystem = *std::move(found), .bdev = *std::move(exported)};
}

absl::StatusOr<Namespaces::Found> Namespaces::Query(const base::Context& context,
                                                    const std::string& nqn,
                                                    const std::string& bdev_name) {
  const Request requests[] = {spdk::GetSubsystem(nqn), spdk::GetBdev(bdev_name)};
  const spdk::Results results = target_.CallMany(context, requests);
  return ParseFound(results[0], results[1]);
}

// Sends everything in one round trip: the creation of the bdev, if needed, the namespace, and the
// queries that show whether the namespace is in the right subsystem and exports the right bdev.
OutcomeOr<std::string> Namespaces::Attach(const base::Context& context, const SubsystemSpec& spec,
                                          const DeviceVolume& volume) {
  std::vector<Request> requests;
  if (volume.plan != nullptr) requests = volume.plan->TakeRequests();
  const size_t planned = requests.size();
  requests.push_back(spdk::GetSubsystem(spec.nqn));
  requests.push_back(spdk::GetBdev(volume.bdev_name));
  requests.push_back(spdk::AddNamespace(spec.nqn, NamespaceOf(volume)));
  spdk::Results results = spdk::CallToEnd(target_, context, requests);
  Outcome made;
  if (volume.plan != nullptr) {
    made = volume.plan->CheckResults(std::span(requests).first(planned),
                                     std::span(results).first(planned));
  }
  absl::StatusOr<Found> found = ParseFound(results[planned], results[planned + 1]);
  const absl::StatusOr<jsonrpc::Json>& answer = results[planned + 2];
  DeviceVolume ready = volume;
  ready.plan = nullptr;
  if (!made.ok()) {
    // The state of the bdev is only known after the namespace has been added.
    if (!answer.ok() && Outcome(answer.status()).is_settled()) return made;
    return UndoAttach(std::move(made), spec, ready, answer);
  }
  if (answer.ok()) return FinishAttach(context, spec, ready, found, answer);
  if (!jsonrpc::GetTargetError(answer.status())) {
    // This holds regardless of the outcome of the request: a bdev that was already exported is not
    // exported twice.
    const bool was_exported = found.ok() && found->subsystem && found->bdev &&
                              FindNamespace(*found->subsystem, volume.id, found->bdev->name);
    return was_exported ? Outcome::NotDone(answer.status()) : Outcome(answer.status());
  }
  // The request is sent again, because a target that does not keep the order may have executed it
  // before the bdev existed.
  if (volume.plan != nullptr && !spdk::IsNoSuchSubsystem(answer.status())) {
    return Attach(context, spec, ready);
  }
  return AttachRefused(context, spec, ready, found, answer.status());
}

// Checks the namespace that the target has added.
OutcomeOr<std::string> Namespaces::FinishAttach(const base::Context& context,
                                                const SubsystemSpec& spec,
                                                const DeviceVolume& volume,
                                                const absl::StatusOr<Found>& found,
                                                const absl::StatusOr<jsonrpc::Json>& answer) {
  absl::StatusOr<uint32_t> nsid = spdk::ParseNsid(*answer);
  absl::Status status = found.status();
  if (status.ok()) status = nsid.status();
  if (status.ok() && found->subsystem && !IsOwned(spec, *found->subsystem)) {
    status = NotOwned(spec.nqn);
  }
  if (status.ok() && !found->bdev) {
    status = VolumeError(absl::StatusCode::kUnavailable, volume, "was removed from the target");
  }
  if (status.ok() && found->subsystem) {
    // Hosts that find two namespaces with the same UUID may use either one.
    const spdk::Namespace* other = FindImpostor(*found->subsystem, volume.id, found->bdev->name);
    if (other != nullptr) status = IsImpostor(volume, spec.nqn, *other);
  }
  if (status.ok()) status = context.status();
  if (!status.ok()) {
    return UndoAttach(Outcome::NotDone(std::move(status)), spec, volume, answer);
  }
  return Attachment{.nsid = *nsid, .bdev_name = found->bdev->name}.ToString();
}

// Removes a namespace that the target has added, or may have added, from whichever subsystem has
// it.
Outcome Namespaces::UndoAttach(Outcome why, const SubsystemSpec& spec, const DeviceVolume& volume,
                               const absl::StatusOr<jsonrpc::Json>& answer) {
  Outcome undone;
  absl::StatusOr<uint32_t> nsid = answer.ok() ? spdk::ParseNsid(*answer) : answer.status();
  if (nsid.ok()) {
    undone = spdk::DoToEnd(target_, spdk::UndoContext(), spdk::RemoveNamespace(spec.nqn, *nsid));
  }
  // The removal was refused, or the NSID is unknown.
  if (!nsid.ok() || jsonrpc::GetTargetError(undone.status())) {
    undone = Detach(spdk::UndoContext(), spec, volume);
  }
  return undone.ok() ? why : Outcome::Unknown(why.status());
}

// SPDK reports most errors of a namespace as "Invalid parameters", so this determines the reason.
// Also waits for a bdev that does not exist yet.
OutcomeOr<std::string> Namespaces::AttachRefused(const base::Context& context,
                                                 const SubsystemSpec& spec,
                                                 const DeviceVolume& volume,
                                                 const absl::StatusOr<Found>& found,
                                                 absl::Status refusal) {
  // Returned without a query, because another call may have recreated the subsystem by then.
  if (spdk::IsNoSuchSubsystem(refusal)) return NotOnTarget(spec.nqn);
  // Whatever became of the query, the namespace was refused.
  if (!found.ok()) return Outcome::NotDone(found.status());
  if (!found->subsystem) return NotOnTarget(spec.nqn);
  const spdk::Subsystem& subsystem = *found->subsystem;
  if (!IsOwned(spec, subsystem)) return NotOwned(spec.nqn);
  if (!found->bdev && volume.wait > std::chrono::nanoseconds(0)) {
    auto bdev = spdk::FindBdev(target_, context, volume.bdev_name, volume.wait);
    if (!bdev.ok()) return Outcome::NotDone(bdev.status());
    DeviceVolume there = volume;
    there.wait = std::chrono::nanoseconds(0);
    if (*bdev) return Attach(context, spec, there);
  }
  if (!found->bdev) {
    return VolumeError(absl::StatusCode::kNotFound, volume, "was not found on the target");
  }
  if (const spdk::Namespace* ns = FindNamespace(subsystem, volume.id, found->bdev->name)) {
    return {Attachment{.nsid = ns->nsid, .bdev_name = ns->bdev_name}.ToString(),
            Outcome::WasThere()};
  }
  if (const spdk::Namespace* ns = FindImpostor(subsystem, volume.id, found->bdev->name)) {
    return IsImpostor(volume, spec.nqn, *ns);
  }
  if (found->bdev->claimed) {
    return VolumeError(absl::StatusCode::kAlreadyExists, volume,
                       "is in use elsewhere on the target");
  }
  const uint32_t max = subsystem.max_namespaces;
  if (max != 0 && subsystem.namespaces.size() >= max) {
    return absl::ResourceExhaustedError(
        fmt::format("subsystem {} already has {} namespaces, which is its maximum", spec.nqn, max));
  }
  return VolumeError(absl::StatusCode::kInternal, volume,
                     fmt::format("was refused: {}", std::string(refusal.message())));
}

// A removal cannot be rolled back without the hosts noticing, and the NSID or the NQN may belong to
// another client by now, so the target is queried first.
Outcome Namespaces::Detach(const base::Context& context, const SubsystemSpec& spec,
                           const DeviceVolume& volume) {
  absl::StatusOr<Found> found = Query(context, spec.nqn, volume.bdev_name);
  if (!found.ok()) return found.status();
  if (!found->subsystem) return Outcome::WasGone();
  const spdk::Namespace* ns = FindExported(*found->subsystem, volume, found->bdev);
  if (ns == nullptr) return Outcome::WasGone();
  // An unfinished attach may have added the namespace to a subsystem that had just replaced the
  // agent's.
  const bool was_attached = !volume.attachment.empty();
  if (was_attached && !IsOwned(spec, *found->subsystem)) {
    spdlog::warn("{}: volume {} is not detached: {}", spec.nqn, volume.id.ToString(),
                 std::string(NotOwned(spec.nqn).message()));
    return Outcome::WasGone();
  }
  absl::Status status = spdk::DoToEnd(target_, context, spdk::RemoveNamespace(spec.nqn, ns->nsid));
  if (!jsonrpc::GetTargetError(status)) return status;
  // The namespace may have been removed by another client, or with its bdev.
  found = Query(context, spec.nqn, volume.bdev_name);
  if (!found.ok()) return found.status();
  const bool is_gone =
      !found->subsystem || FindExported(*found->subsystem, volume, found->bdev) == nullptr;
  return is_gone ? absl::OkStatus() : status;
}

}  // namespace sma::nvmf_common
