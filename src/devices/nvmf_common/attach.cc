// How volumes become namespaces and cease to be.

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <utility>

#include "agent/spdk/bdev.h"
#include "devices/nvmf_common/comparison.h"
#include "devices/nvmf_common/subsystem_devices.h"
#include "jsonrpc/error.h"

namespace sma::nvmf_common {

using jsonrpc::Request;

namespace {

using FoundSubsystem = absl::StatusOr<std::optional<spdk::Subsystem>>;

absl::Status VolumeError(absl::StatusCode code, const DeviceVolume& volume, std::string_view what) {
  return absl::Status(code, fmt::format("volume {} {}", volume.id.ToString(), what));
}

Outcome NotOnTarget(const std::string& nqn) {
  return Outcome::DeviceMissing(
      absl::UnavailableError(fmt::format("subsystem {} is not on the target", nqn)));
}

}  // namespace

OutcomeOr<std::string> SubsystemDevices::Attach(const base::Context& context,
                                                const std::string& nqn,
                                                const DeviceVolume& volume) {
  if (volume.plan != nullptr) return AttachPlanned(context, nqn, volume);
  return FinishAttach(
      context, nqn, volume,
      spdk::CallToEnd(target_, context, spdk::AddNamespace(nqn, NamespaceOf(volume))));
}

// Makes the bdev and the namespace in one round trip. What the target made of the bdev is known
// only after the namespace is there.
OutcomeOr<std::string> SubsystemDevices::AttachPlanned(const base::Context& context,
                                                       const std::string& nqn,
                                                       const DeviceVolume& volume) {
  std::vector<Request> requests = volume.plan->TakeRequests();
  requests.push_back(spdk::AddNamespace(nqn, NamespaceOf(volume)));
  spdk::Results results = spdk::CallToEnd(target_, context, requests);
  const size_t planned = requests.size() - 1;
  Outcome made = volume.plan->CheckResults(std::span(requests).first(planned),
                                           std::span(results).first(planned));
  DeviceVolume ready = volume;
  ready.plan = nullptr;
  const absl::StatusOr<jsonrpc::Json>& answer = results.back();
  if (made.ok()) {
    // One that came too early for a target that does not keep the order is sent again.
    bool refused = jsonrpc::GetTargetError(answer.status()).has_value();
    if (refused && !spdk::IsNoSuchSubsystem(answer.status())) return Attach(context, nqn, ready);
    return FinishAttach(context, nqn, ready, answer);
  }
  if (!answer.ok() && !Outcome(answer.status()).is_unknown()) return made;
  Outcome undone = RemoveFound(spdk::UndoContext(), nqn, volume.id);
  return undone.ok() ? made : Outcome::Unknown(made.status());
}

// Whether the namespace is there, by the target's `answer`.
OutcomeOr<std::string> SubsystemDevices::FinishAttach(const base::Context& context,
                                                      const std::string& nqn,
                                                      const DeviceVolume& volume,
                                                      const absl::StatusOr<jsonrpc::Json>& answer) {
  if (!answer.ok()) {
    bool refused = jsonrpc::GetTargetError(answer.status()).has_value();
    if (refused) return AttachRefused(context, nqn, volume, answer.status());
    return answer.status();
  }
  absl::StatusOr<uint32_t> nsid = spdk::ParseNsid(*answer);
  Outcome outcome = nsid.ok() ? context.status() : nsid.status();
  if (outcome.ok()) return std::to_string(*nsid);
  return std::move(outcome).AfterUndo(RemoveFound(spdk::UndoContext(), nqn, volume.id));
}

// The target says of most things that it does not like about a namespace only "Invalid parameters":
// looks what it is, and waits for a bdev that is not there yet.
OutcomeOr<std::string> SubsystemDevices::AttachRefused(const base::Context& context,
                                                       const std::string& nqn,
                                                       const DeviceVolume& volume,
                                                       absl::Status refusal) {
  // By the time of a look another call may have made it again.
  if (spdk::IsNoSuchSubsystem(refusal)) return NotOnTarget(nqn);
  const Request looks[] = {spdk::GetSubsystem(nqn), spdk::GetBdev(volume.bdev_name)};
  const spdk::Results results = target_.CallMany(context, looks);
  FoundSubsystem subsystem = spdk::ParseSubsystem(results[0]);
  if (!subsystem.ok()) return subsystem.status();
  if (!*subsystem) return NotOnTarget(nqn);
  if (const spdk::Namespace* ns = FindNamespace(**subsystem, volume.id)) {
    return std::to_string(ns->nsid);
  }
  absl::StatusOr<std::optional<spdk::Bdev>> bdev = spdk::ParseBdev(results[1]);
  if (!bdev.ok()) return bdev.status();
  if (!*bdev && volume.wait > std::chrono::nanoseconds(0)) {
    bdev = spdk::FindBdev(target_, context, volume.bdev_name, volume.wait);
    if (!bdev.ok()) return bdev.status();
    DeviceVolume there = volume;
    there.wait = std::chrono::nanoseconds(0);
    if (*bdev) return Attach(context, nqn, there);
  }
  if (!*bdev)
    return VolumeError(absl::StatusCode::kNotFound, volume, "was not found on the target");
  if ((*bdev)->claimed) {
    return VolumeError(absl::StatusCode::kAlreadyExists, volume,
                       "is in use elsewhere on the target");
  }
  uint32_t max = (*subsystem)->max_namespaces;
  if (max != 0 && (*subsystem)->namespaces.size() >= max) {
    return absl::ResourceExhaustedError(
        fmt::format("subsystem {} has {} namespaces already, as many as it can", nqn, max));
  }
  return VolumeError(absl::StatusCode::kInternal, volume,
                     fmt::format("was refused: {}", std::string(refusal.message())));
}

Outcome SubsystemDevices::Detach(const base::Context& context, const std::string& nqn,
                                 const DeviceVolume& volume) {
  uint32_t nsid = NsidOf(volume.attachment);
  if (nsid == 0) return RemoveFound(context, nqn, volume.id);

  // The target gives the NSID of a namespace that is gone to the next one. To save a round trip, it
  // is asked what the NSID stands for together with its removal, which it starts after answering.
  const Request requests[] = {spdk::GetSubsystem(nqn), spdk::RemoveNamespace(nqn, nsid)};
  const spdk::Results results = spdk::CallToEnd(target_, context, requests);
  FoundSubsystem before = spdk::ParseSubsystem(results[0]);
  if (!before.ok()) return before.status();
  if (!*before) return absl::OkStatus();
  const spdk::Namespace* removed = NamespaceAt(**before, nsid);
  if (!results[1].ok()) {
    if (!jsonrpc::GetTargetError(results[1].status())) return results[1].status();
    return RemoveFound(spdk::UndoContext(), nqn, volume.id);
  }
  if (removed == nullptr || removed->uuid == volume.id) return absl::OkStatus();
  PutBack(nqn, *removed);
  return RemoveFound(spdk::UndoContext(), nqn, volume.id);
}

Outcome SubsystemDevices::RemoveFound(const base::Context& context, const std::string& nqn,
                                      const base::Uuid& id) {
  FoundSubsystem subsystem = spdk::FindSubsystem(target_, context, nqn);
  if (!subsystem.ok()) return subsystem.status();
  const spdk::Namespace* ns = *subsystem ? FindNamespace(**subsystem, id) : nullptr;
  if (ns == nullptr) return absl::OkStatus();
  return spdk::DoToEnd(target_, context, spdk::RemoveNamespace(nqn, ns->nsid));
}

void SubsystemDevices::PutBack(const std::string& nqn, const spdk::Namespace& ns) {
  spdlog::warn("{}: namespace {} is not what it was, but of bdev {}: putting it back", nqn, ns.nsid,
               ns.bdev_name);
  absl::Status status = spdk::DoToEnd(target_, spdk::UndoContext(), spdk::AddNamespace(nqn, ns));
  if (!status.ok()) spdlog::error("{}: {}", nqn, status.ToString());
}

}  // namespace sma::nvmf_common
