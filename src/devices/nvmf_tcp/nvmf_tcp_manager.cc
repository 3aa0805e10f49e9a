// SPDX-License-Identifier: Apache-2.0

#include "devices/nvmf_tcp/nvmf_tcp_manager.h"

#include <fmt/format.h>

#include <set>
#include <utility>

#include "devices/nvmf_common/comparison.h"
#include "devices/nvmf_tcp/params.h"

namespace sma::nvmf_tcp {

using nvmf_common::SubsystemListing;
using nvmf_common::SubsystemSpec;

namespace {

SubsystemSpec SpecOf(const DeviceSpec& device) {
  const DeviceParameters& params = device.params.nvmf_tcp();
  return {.nqn = params.subnqn(),
          .allow_any_host = params.allow_any_host(),
          .hosts = {params.hosts().begin(), params.hosts().end()},
          .listener = AddressOf(params),
          .serial_number = device.mark};
}

}  // namespace

absl::StatusOr<DeviceSpec> NvmfTcpManager::Describe(const CreateDeviceRequest& request) const {
  absl::StatusOr<DeviceParameters> params = Canonical(request.nvmf_tcp());
  if (!params.ok()) return params.status();
  DeviceSpec device;
  device.handle = HandleOf(params->subnqn());
  *device.params.mutable_nvmf_tcp() = *std::move(params);
  device.mark = nvmf_common::NewSerialNumber();
  return device;
}

bool NvmfTcpManager::OwnsHandle(std::string_view handle) const { return IsHandle(handle); }

absl::Status NvmfTcpManager::Prepare(const base::Context& context) {
  return subsystems_.Prepare(context);
}

absl::StatusOr<std::optional<ExistingDevice>> NvmfTcpManager::FindExisting(
    const base::Context& context, const DeviceSpec& device) {
  return subsystems_.FindExisting(context, SpecOf(device));
}

OutcomeOr<CreatedDevice> NvmfTcpManager::CreateDevice(const base::Context& context,
                                                      const DeviceSpec& device,
                                                      const DeviceVolume* volume) {
  OutcomeOr<std::string> attachment = subsystems_.Create(context, SpecOf(device), volume);
  if (!attachment.ok()) return attachment.outcome();
  return CreatedDevice{.handle = device.handle, .attachment = *std::move(attachment)};
}

Outcome NvmfTcpManager::UndoCreate(const base::Context& context, const DeviceSpec& device,
                                   const DeviceVolume* volume) {
  return subsystems_.UndoCreate(context, SpecOf(device), volume);
}

Outcome NvmfTcpManager::DeleteDevice(const base::Context& context, const DeviceSpec& device,
                                     std::span<const DeviceVolume> /*volumes*/) {
  return subsystems_.Delete(context, SpecOf(device));
}

OutcomeOr<std::string> NvmfTcpManager::AttachVolume(const base::Context& context,
                                                    const DeviceSpec& device,
                                                    const DeviceVolume& volume) {
  return subsystems_.Attach(context, SpecOf(device), volume);
}

Outcome NvmfTcpManager::DetachVolume(const base::Context& context, const DeviceSpec& device,
                                     const DeviceVolume& volume) {
  return subsystems_.Detach(context, SpecOf(device), volume);
}

absl::StatusOr<std::unique_ptr<DeviceListing>> NvmfTcpManager::List(const base::Context& context) {
  return subsystems_.List(context);
}

absl::StatusOr<std::unique_ptr<DeviceListing>> NvmfTcpManager::ListOf(
    const base::Context& context, std::span<const std::string> handles) {
  std::vector<std::string> nqns;
  for (const std::string& handle : handles) nqns.push_back(NqnOf(handle));
  return subsystems_.ListOf(context, nqns);
}

uint64_t NvmfTcpManager::FingerprintOf(const DeviceListing& listing,
                                       std::string_view handle) const {
  return static_cast<const SubsystemListing&>(listing).FingerprintOf(NqnOf(handle));
}

RestoreResult NvmfTcpManager::Restore(const base::Context& context, const RestoreRequest& request) {
  return subsystems_.Restore(context, SpecOf(request.device), request);
}

Outcome NvmfTcpManager::SetQos(const base::Context& context, const DeviceSpec& /*device*/,
                               const DeviceVolume* volume, const QosLimit& maximum) {
  return subsystems_.SetQos(context, volume, maximum);
}

absl::StatusOr<GetQosCapabilitiesResponse> NvmfTcpManager::GetQosCapabilities(
    const base::Context& /*context*/) const {
  return nvmf_common::SubsystemDevices::QosCapabilities();
}

std::vector<AdoptionCandidate> NvmfTcpManager::ListAdoptionCandidates(
    const DeviceListing& listing, std::span<const std::string> known) const {
  const std::set<std::string_view> ours(known.begin(), known.end());
  std::vector<AdoptionCandidate> candidates;
  for (const auto& [nqn, subsystem] : static_cast<const SubsystemListing&>(listing).subsystems()) {
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
      candidate.obstacle =
          fmt::format("has {} listeners instead of one", subsystem.listeners.size());
    } else if (!device.ok()) {
      candidate.obstacle = std::string(device.status().message());
    } else if (!nvmf_common::IsEqual(SpecOf(*device), subsystem)) {
      candidate.obstacle = "its listener is not an NVMe/TCP listener";
    }
    candidate.device =
        device.ok() ? *std::move(device) : DeviceSpec{.handle = HandleOf(nqn), .params = request};
    candidate.device.mark = subsystem.serial_number;
    candidate.volumes = nvmf_common::VolumesOf(subsystem);
    std::erase_if(candidate.volumes, [](const DeviceVolume& volume) { return volume.id.is_nil(); });
    candidates.push_back(std::move(candidate));
  }
  return candidates;
}

}  // namespace sma::nvmf_tcp
