#include "devices/nvmf_common/subsystem_devices.h"

#include <spdlog/spdlog.h>

#include "agent/spdk/qos.h"
#include "devices/nvmf_common/attachment.h"
#include "jsonrpc/error.h"

namespace sma::nvmf_common {

absl::Status SubsystemDevices::Prepare(const base::Context& context) {
  uint64_t generation = target_.generation();
  if (generation != 0 && prepared_generation_ == generation) return absl::OkStatus();
  absl::Status status = spdk::EnsureTransport(target_, context, transport_);
  if (status.ok()) prepared_generation_ = generation;
  return status;
}

// Deleting cannot be undone, and the NQN may be somebody else's subsystem by now: the target is
// asked before.
Outcome SubsystemDevices::Delete(const base::Context& context, const SubsystemSpec& spec) {
  absl::StatusOr<std::optional<spdk::Subsystem>> found =
      spdk::FindSubsystem(target_, context, spec.nqn);
  if (!found.ok()) return found.status();
  if (*found && !IsOwned(spec, **found)) {
    spdlog::warn("{}: left alone: {}", spec.nqn, std::string(NotOwned(spec.nqn).message()));
    known_.Add(spec.nqn);
    return absl::OkStatus();
  }
  if (*found) {
    // Its namespaces are removed with the subsystem.
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
  if (volume == nullptr) return absl::UnimplementedError("a device has no limits of its own");
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
