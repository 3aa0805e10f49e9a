// SPDX-License-Identifier: Apache-2.0

#include "devices/nvmf_common/subsystem_devices.h"

#include <spdlog/spdlog.h>

#include "agent/spdk/qos.h"
#include "devices/nvmf_common/attachment.h"
#include "jsonrpc/error.h"

namespace sma::nvmf_common {

absl::Status SubsystemDevices::Prepare(const base::Context& context) {
  uint64_t generation = target_.generation();
  if (generation != 0 && prepared_generation_ == generation) return absl::OkStatus();
  absl::Status status = spdk::EnsureTransport(target_, context, transport_, transport_options_);
  if (status.ok()) prepared_generation_ = generation;
  return status;
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
