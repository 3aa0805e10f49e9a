// SPDX-License-Identifier: Apache-2.0

#include "agent/core/agent_cases.h"

#include <algorithm>
#include <chrono>
#include <optional>

#include "agent/core/use_cases.h"

namespace sma::core {

namespace {

bool IsNamed(const absl::StatusOr<DeviceManager*>& manager) {
  return manager.ok() && *manager != nullptr && (*manager)->traits().names_devices;
}

// Converts the error of a call whose deadline cut it short: an object that was not found or not
// reached before the deadline may still exist.
absl::Status ForCaller(const base::Context& context, const absl::Status& error) {
  switch (error.code()) {
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kCancelled:
      break;
    default:
      return error;
  }
  if (absl::IsCancelled(context.status()) || !context.IsCutShort()) return error;
  return absl::DeadlineExceededError(error.message());
}

// Returns the storage node of a volume, named by its first address; empty for a local volume.
std::string NodeOf(const VolumeParameters& params) {
  if (params.has_iscsi()) return "node " + params.iscsi().portal();
  const auto& nvmf = params.nvmf();
  const nvmf::Address* first = nullptr;
  if (nvmf.discovery().discovery_endpoints_size() > 0) {
    first = &nvmf.discovery().discovery_endpoints(0);
  } else if (nvmf.direct().addresses_size() > 0) {
    first = &nvmf.direct().addresses(0);
  }
  return first == nullptr ? std::string() : "node " + first->traddr() + " " + first->trsvcid();
}

}  // namespace

template <typename Response, typename Request>
absl::StatusOr<Response> AgentCases::Run(absl::StatusOr<Response> (*use_case)(Core&,
                                                                              const base::Context&,
                                                                              const Request&),
                                         const base::Context& caller, const Request& request) {
  const base::TimePoint begin = std::chrono::steady_clock::now();
  const base::Context context = caller.Child(begin + core_.options.default_timeout);
  absl::StatusOr<Response> response = use_case(core_, context, request);
  if (response.ok()) return response;
  return ForCaller(context, response.status());
}

absl::StatusOr<CreateDeviceResponse> AgentCases::CreateDevice(const base::Context& context,
                                                              const CreateDeviceRequest& request) {
  if (absl::Status status = core_.target_status(); !status.ok()) return status;
  return Run(&core::CreateDevice, context, request);
}

absl::StatusOr<DeleteDeviceResponse> AgentCases::DeleteDevice(const base::Context& context,
                                                              const DeleteDeviceRequest& request) {
  return Run(&core::DeleteDevice, context, request);
}

absl::StatusOr<AttachVolumeResponse> AgentCases::AttachVolume(const base::Context& context,
                                                              const AttachVolumeRequest& request) {
  if (absl::Status status = core_.target_status(); !status.ok()) return status;
  return Run(&core::AttachVolume, context, request);
}

absl::StatusOr<DetachVolumeResponse> AgentCases::DetachVolume(const base::Context& context,
                                                              const DetachVolumeRequest& request) {
  return Run(&core::DetachVolume, context, request);
}

absl::StatusOr<SetQosResponse> AgentCases::SetQos(const base::Context& context,
                                                  const SetQosRequest& request) {
  if (absl::Status status = core_.target_status(); !status.ok()) return status;
  return Run(&core::SetQos, context, request);
}

absl::StatusOr<GetQosCapabilitiesResponse> AgentCases::GetQosCapabilities(
    const base::Context& context, const GetQosCapabilitiesRequest& request) {
  return Run(&core::GetQosCapabilities, context, request);
}

bool AgentCases::IsPlugins(const CreateDeviceRequest& request) const {
  return IsNamed(core_.registry.ForRequest(request));
}

bool AgentCases::IsPlugins(DeviceType type) const { return IsNamed(core_.registry.ForType(type)); }

// Also returns true for a handle that is not in the record and does not match another type, since
// only plugins can tell whether such a device exists.
bool AgentCases::IsPlugins(std::string_view handle) const {
  const auto& managers = core_.registry.managers();
  auto is_named = [](const auto& manager) { return manager->traits().names_devices; };
  if (std::none_of(managers.begin(), managers.end(), is_named)) return false;
  if (std::optional<record::Device> row = core_.record->FindDevice(handle)) {
    return IsNamed(core_.registry.ForName(row->manager));
  }
  return std::none_of(managers.begin(), managers.end(), [&](const auto& manager) {
    return !is_named(manager) && manager->OwnsHandle(handle);
  });
}

api::Neighbour AgentCases::NeighbourOf(const CreateDeviceRequest& request) const {
  absl::StatusOr<DeviceManager*> manager = core_.registry.ForRequest(request);
  if (!manager.ok()) return {};
  if ((*manager)->traits().names_devices) return {"plugin " + std::string((*manager)->name())};
  if (std::string node = NodeOf(request.volume()); !node.empty()) return {node};
  absl::StatusOr<DeviceSpec> device = (*manager)->Describe(request);
  if (!device.ok()) return {};
  const std::string neighbour = (*manager)->NeighbourOf(*device);
  return neighbour.empty() ? DeviceAsNeighbour(device->handle) : api::Neighbour{neighbour};
}

// Without another neighbour, the device itself is the one: calls may wait for its lock, which a
// call that waits for a storage node may hold if one of the device's volumes is on such a node.
api::Neighbour AgentCases::DeviceAsNeighbour(const std::string& handle) const {
  const bool has_remote = core_.record->AnyVolumeOf(
      handle, [](const record::Volume& row) { return !NodeOf(row.params).empty(); });
  return {.name = LockTable::Device(handle).name, .is_local = !has_remote};
}

api::Neighbour AgentCases::NeighbourOfDevice(const std::string& handle) const {
  std::optional<record::Device> row = core_.record->FindDevice(handle);
  const DeviceManager* manager = row ? core_.registry.ForName(row->manager) : nullptr;
  if (manager == nullptr) return DeviceAsNeighbour(handle);
  if (manager->traits().names_devices) return {"plugin " + std::string(manager->name())};
  const std::string neighbour = manager->NeighbourOf(SpecOf(*row));
  return neighbour.empty() ? DeviceAsNeighbour(handle) : api::Neighbour{neighbour};
}

std::string AgentCases::NeighbourOfVolume(const std::string& volume_id) const {
  std::optional<base::Uuid> id = base::Uuid::FromBytes(volume_id);
  std::optional<record::Volume> row = id ? core_.record->FindVolume(*id) : std::nullopt;
  return row ? NodeOf(row->params) : std::string();
}

api::Neighbour AgentCases::NeighbourOf(const DeleteDeviceRequest& request) const {
  api::Neighbour device = NeighbourOfDevice(request.handle());
  if (device.name != LockTable::Device(request.handle()).name || device.is_local) return device;
  core_.record->AnyVolumeOf(request.handle(), [&](const record::Volume& volume) {
    std::string node = NodeOf(volume.params);
    if (!node.empty()) device.name = std::move(node);
    return !node.empty();
  });
  return device;
}

api::Neighbour AgentCases::NeighbourOf(const AttachVolumeRequest& request) const {
  std::string node = NodeOf(request.volume());
  return node.empty() ? NeighbourOfDevice(request.device_handle()) : api::Neighbour{node};
}

api::Neighbour AgentCases::NeighbourOf(const DetachVolumeRequest& request) const {
  std::string node = NeighbourOfVolume(request.volume_id());
  return node.empty() ? NeighbourOfDevice(request.device_handle()) : api::Neighbour{node};
}

api::Neighbour AgentCases::NeighbourOf(const SetQosRequest& request) const {
  std::string node = NeighbourOfVolume(request.volume_id());
  return node.empty() ? NeighbourOfDevice(request.device_handle()) : api::Neighbour{node};
}

}  // namespace sma::core
