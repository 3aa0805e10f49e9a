#include "devices/nvmf_tcp/nvmf_tcp_manager.h"

#include <fmt/format.h>

#include <utility>

#include "agent/spdk/bdev.h"
#include "agent/spdk/qos.h"
#include "devices/nvmf_tcp/params.h"
#include "jsonrpc/error.h"

namespace sma::nvmf_tcp {

absl::StatusOr<DeviceSpec> NvmfTcpManager::Describe(const CreateDeviceRequest& request) const {
  absl::StatusOr<DeviceParameters> params = Canonical(request.nvmf_tcp());
  if (!params.ok()) return params.status();
  DeviceSpec device;
  device.handle = HandleOf(params->subnqn());
  *device.params.mutable_nvmf_tcp() = *std::move(params);
  return device;
}

bool NvmfTcpManager::OwnsHandle(std::string_view handle) const { return IsHandle(handle); }

absl::Status NvmfTcpManager::Prepare(const base::Context& context) {
  uint64_t generation = target_.generation();
  if (generation != 0 && prepared_generation_ == generation) return absl::OkStatus();
  absl::Status status = spdk::EnsureTransport(target_, context, "tcp");
  if (status.ok()) prepared_generation_ = generation;
  return status;
}

absl::Status NvmfTcpManager::DeleteDevice(const base::Context& context, const DeviceSpec& device,
                                          std::span<const DeviceVolume> /*volumes*/) {
  // Its namespaces go with the subsystem.
  const std::string& nqn = device.params.nvmf_tcp().subnqn();
  absl::Status status = spdk::DoToEnd(target_, context, spdk::DeleteSubsystem(nqn));
  if (!status.ok() && !spdk::IsNoSuchSubsystem(status)) {
    if (!jsonrpc::GetTargetError(status)) return status;
    absl::StatusOr<std::optional<spdk::Subsystem>> found =
        spdk::FindSubsystem(target_, context, nqn);
    if (!found.ok() || found->has_value()) return status;
  }
  known_.Remove(nqn);
  return absl::OkStatus();
}

absl::Status NvmfTcpManager::SetQos(const base::Context& context, const DeviceSpec& /*device*/,
                                    const DeviceVolume* volume, const QosLimit& maximum) {
  if (volume == nullptr) return NotSupported("SetQos of a whole device");
  absl::StatusOr<spdk::RateLimits> limits = spdk::ToRateLimits(maximum);
  if (!limits.ok()) return limits.status();
  return spdk::SetQosLimits(target_, context, volume->bdev_name, *limits);
}

GetQosCapabilitiesResponse NvmfTcpManager::GetQosCapabilities() const {
  GetQosCapabilitiesResponse response;
  *response.mutable_max_volume_caps() = spdk::BdevQosCapabilities();
  return response;
}

}  // namespace sma::nvmf_tcp
