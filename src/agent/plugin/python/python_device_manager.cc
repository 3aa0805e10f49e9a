// SPDX-License-Identifier: Apache-2.0

#include "agent/plugin/python/python_device_manager.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <utility>

#include "agent/plugin/python/host.h"
#include "sma/device_params.h"

namespace sma::python {

using base::MutexLock;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

// How long to wait for the target's answer at the agent's start before `init` is postponed.
constexpr milliseconds kConnectTime{1000};
constexpr milliseconds kConnectPoll{5};
constexpr seconds kInitTime{30};
constexpr seconds kInitAgainTime{10};  // after a reconnection to the target
constexpr seconds kRestoreTime{10};    // per call
constexpr seconds kQuestionTime{5};    // for calls that need no target

void WaitForTarget() {
  auto end = std::chrono::steady_clock::now() + kConnectTime;
  while (Host::Get().target().generation() == 0 && std::chrono::steady_clock::now() < end) {
    base::Context::Background()
        .SleepUntil(std::chrono::steady_clock::now() + kConnectPoll)
        .IgnoreError();
  }
}

// Returns true for the errors with which a plugin that does not support repeated calls may answer a
// repeated call.
bool ExistsAlready(const absl::Status& status) {
  return status.ok() || absl::IsAlreadyExists(status) || absl::IsUnimplemented(status);
}

// Value of DeviceVolume::attachment for a volume that was passed to CreateDevice.
constexpr std::string_view kWithDevice = "with the device";

VolumeParameters ParametersOf(const DeviceVolume& volume) {
  VolumeParameters params = volume.params;
  params.set_volume_id(volume.id.ToBytes());
  return params;
}

}  // namespace

absl::StatusOr<std::unique_ptr<DeviceManager>> PythonDeviceManager::Make(
    PluginObject object, const std::string& protocol, const nlohmann::json& params) {
  const DeviceType type = TypeOfProtocol(protocol);
  if (type == DEVICE_TYPE_INVALID) {
    return absl::InvalidArgumentError(
        fmt::format("'{}' is not a protocol (known: {})", protocol, Protocols(", ")));
  }
  std::unique_ptr<PythonDeviceManager> manager(
      new PythonDeviceManager(std::move(object), protocol, type, params.dump()));
  WaitForTarget();
  if (Host::Get().target().generation() == 0) return manager;
  absl::Status status = manager->Init(base::Context::WithTimeout(kInitTime));
  if (!status.ok() && !absl::IsUnavailable(status)) return status;
  return manager;
}

absl::Status PythonDeviceManager::Init(const base::Context& context) {
  uint64_t generation = Host::Get().target().generation();
  absl::Status status = object_.Run(context, "init_device", params_).status();
  MutexLock lock(mutex_);
  if (status.ok()) {
    initialized_generation_ = generation;
    initialized_ = status;
  } else if (!initialized_.ok()) {
    initialized_ =
        absl::Status(status.code(), fmt::format("init: {}", std::string(status.message())));
  }
  return status;
}

absl::Status PythonDeviceManager::Prepare(const base::Context& context) {
  uint64_t generation = Host::Get().target().generation();
  {
    MutexLock lock(mutex_);
    if (generation != 0 && initialized_generation_ == generation) return absl::OkStatus();
  }
  // A plugin that cannot be used now must not block the other device types.
  absl::Status status = Init(context.Child(std::chrono::steady_clock::now() + kInitAgainTime));
  if (!status.ok()) spdlog::error("{}: init: {}", name(), std::string(status.message()));
  return absl::OkStatus();
}

absl::Status PythonDeviceManager::CheckInitialized() const {
  MutexLock lock(mutex_);
  return initialized_;
}

bool PythonDeviceManager::OwnsHandle(std::string_view handle) const {
  auto answer =
      object_.Run(base::Context::WithTimeout(kQuestionTime), "owns_device", std::string(handle));
  return answer.ok() && !answer->empty();
}

bool PythonDeviceManager::deletes_with_volumes() const {
  auto answer = object_.Run(base::Context::WithTimeout(kQuestionTime), "allow_delete_volumes", "");
  return answer.ok() && !answer->empty();
}

absl::StatusOr<DeviceSpec> PythonDeviceManager::Describe(const CreateDeviceRequest& request) const {
  DeviceSpec device{.handle = "new", .params = request};
  device.params.clear_volume();
  if (const auto* field = ParamsField(request)) {
    device.handle = fmt::format("new {} {}", std::string(field->name()),
                                ParamsIdentity(*ParamsOf(request), " "));
  }
  return device;
}

OutcomeOr<CreatedDevice> PythonDeviceManager::CreateDevice(const base::Context& context,
                                                           const DeviceSpec& device,
                                                           const DeviceVolume* volume) {
  if (absl::Status status = CheckInitialized(); !status.ok()) return status;
  uint64_t generation = Host::Get().target().generation();
  CreateDeviceRequest request = device.params;
  std::optional<DeviceVolume> of_call;
  if (volume != nullptr) {
    of_call = *volume;
    *request.mutable_volume() = ParametersOf(*volume);
  }
  auto answer = object_.Run(context, "create_device", request.SerializeAsString(),
                            DeviceSpec{.handle = "", .params = device.params}, std::move(of_call));
  if (!answer.ok()) return answer.status();
  CreateDeviceResponse response;
  if (!response.ParseFromString(*answer) || response.handle().empty()) {
    return absl::InternalError(fmt::format("{}: create_device returned no handle", name()));
  }
  SetMade(response.handle(), generation);
  return CreatedDevice{.handle = response.handle(),
                       .attachment = volume == nullptr ? std::string() : std::string(kWithDevice)};
}

Outcome PythonDeviceManager::DeleteDevice(const base::Context& context, const DeviceSpec& device,
                                          std::span<const DeviceVolume> /*volumes*/) {
  if (absl::Status status = CheckInitialized(); !status.ok()) return status;
  DeleteDeviceRequest request;
  request.set_handle(device.handle);
  absl::Status status =
      object_.Run(context, "delete_device", request.SerializeAsString(), device).status();
  if (status.ok()) {
    MutexLock lock(mutex_);
    made_.erase(device.handle);
  }
  return status;
}

OutcomeOr<std::string> PythonDeviceManager::AttachVolume(const base::Context& context,
                                                         const DeviceSpec& device,
                                                         const DeviceVolume& volume) {
  if (absl::Status status = CheckInitialized(); !status.ok()) return status;
  AttachVolumeRequest request;
  request.set_device_handle(device.handle);
  *request.mutable_volume() = ParametersOf(volume);
  auto answer = object_.Run(context, "attach_volume", request.SerializeAsString(), device, volume);
  if (!answer.ok()) return answer.status();
  return volume.attachment;
}

Outcome PythonDeviceManager::DetachVolume(const base::Context& context, const DeviceSpec& device,
                                          const DeviceVolume& volume) {
  if (absl::Status status = CheckInitialized(); !status.ok()) return status;
  DetachVolumeRequest request;
  request.set_device_handle(device.handle);
  request.set_volume_id(volume.id.ToBytes());
  return object_.Run(context, "detach_volume", request.SerializeAsString(), device, volume)
      .status();
}

Outcome PythonDeviceManager::SetQos(const base::Context& context, const DeviceSpec& device,
                                    const DeviceVolume* volume, const QosLimit& maximum) {
  if (absl::Status status = CheckInitialized(); !status.ok()) return status;
  SetQosRequest request;
  request.set_device_handle(device.handle);
  *request.mutable_maximum() = maximum;
  std::optional<DeviceVolume> of_call;
  if (volume != nullptr) {
    of_call = *volume;
    request.set_volume_id(volume->id.ToBytes());
  }
  return object_.Run(context, "set_qos", request.SerializeAsString(), device, std::move(of_call))
      .status();
}

absl::StatusOr<GetQosCapabilitiesResponse> PythonDeviceManager::GetQosCapabilities(
    const base::Context& context) const {
  GetQosCapabilitiesRequest request;
  request.set_device_type(type_);
  auto answer = object_.Run(context, "get_qos_capabilities", request.SerializeAsString());
  if (!answer.ok()) return answer.status();
  GetQosCapabilitiesResponse response;
  if (response.ParseFromString(*answer)) return response;
  return absl::InternalError(
      fmt::format("{}: get_qos_capabilities returned a message of the wrong type", name()));
}

// Recreates devices only after a reconnection, because the target may have lost them.
RestoreResult PythonDeviceManager::Restore(const base::Context& context,
                                           const RestoreRequest& request) {
  RestoreResult result;
  for (const DeviceVolume& volume : request.volumes) {
    result.volumes.push_back({.attachment = volume.attachment});
  }
  uint64_t generation = Host::Get().target().generation();
  if (!request.repair || IsMade(request.device.handle, generation)) return result;
  result.status = Recreate(context, request);
  bool all = result.status.ok();
  for (size_t i = 0; all && i < request.volumes.size(); ++i) {
    const DeviceVolume& volume = request.volumes[i];
    if (volume.attachment == kWithDevice) continue;
    absl::Status status =
        AttachVolume(context.Child(std::chrono::steady_clock::now() + kRestoreTime), request.device,
                     volume)
            .status();
    if (ExistsAlready(status)) continue;
    result.volumes[i].attachment = status;
    all = false;
  }
  if (all) SetMade(request.device.handle, generation);
  return result;
}

absl::Status PythonDeviceManager::Recreate(const base::Context& context,
                                           const RestoreRequest& request) {
  if (request.device.params.params_case() == CreateDeviceRequest::PARAMS_NOT_SET)
    return absl::OkStatus();
  const DeviceVolume* with_device = nullptr;
  for (const DeviceVolume& volume : request.volumes) {
    if (volume.attachment == kWithDevice) with_device = &volume;
  }
  OutcomeOr<CreatedDevice> made = CreateDevice(
      context.Child(std::chrono::steady_clock::now() + kRestoreTime), request.device, with_device);
  if (!made.ok()) return ExistsAlready(made.status()) ? absl::OkStatus() : made.status();
  if (made->handle == request.device.handle) return absl::OkStatus();
  return absl::InternalError(
      fmt::format("was recreated with a different handle, {}", made->handle));
}

void PythonDeviceManager::SetMade(const std::string& handle, uint64_t generation) {
  MutexLock lock(mutex_);
  made_[handle] = generation;
}

bool PythonDeviceManager::IsMade(const std::string& handle, uint64_t generation) const {
  MutexLock lock(mutex_);
  auto found = made_.find(handle);
  return found != made_.end() && found->second == generation;
}

}  // namespace sma::python
