// SPDX-License-Identifier: Apache-2.0

#include "agent/plugin/python/built_in.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

namespace sma::python {
namespace {

constexpr std::chrono::seconds kVolumeWait{1};

// Compares ids, or bdev names for an encrypted volume whose bdev has another UUID on the target.
bool Has(const ExistingDevice& device, const DeviceVolume& volume) {
  return std::any_of(device.volumes.begin(), device.volumes.end(), [&](const DeviceVolume& other) {
    return other.id == volume.id || other.bdev_name == volume.bdev_name;
  });
}

// Returns the volume whose id is these 16 bytes: the volume of the call if it matches, otherwise
// one whose bdev is named by the id.
absl::StatusOr<DeviceVolume> VolumeOf(const Call& call, const std::string& id) {
  std::optional<base::Uuid> uuid = base::Uuid::FromBytes(id);
  if (!uuid) return absl::InvalidArgumentError("volume_id: not 16 bytes");
  DeviceVolume volume;
  if (call.volume && call.volume->id == *uuid) {
    volume = *call.volume;
  } else {
    volume.id = *uuid;
    volume.bdev_name = uuid->ToString();
  }
  volume.attachment.clear();  // the plugin's attachment has no meaning for this type
  volume.wait = kVolumeWait;
  return volume;
}

template <typename Request>
absl::StatusOr<Request> Parsed(const std::string& text) {
  Request request;
  if (request.ParseFromString(text)) return request;
  return absl::InvalidArgumentError("invalid request");
}

constexpr uint64_t kKeepLimit = UINT64_MAX;

// Returns INVALID_ARGUMENT for a limit that `supported` does not include; false if all limits are
// to remain unchanged.
absl::StatusOr<bool> ChangesLimits(const QosLimit& maximum,
                                   const GetQosCapabilitiesResponse::QosCapabilities& supported) {
  const auto* limits = QosLimit::descriptor();
  const auto* capabilities = supported.GetDescriptor();
  bool changes = false;
  for (int i = 0; i < limits->field_count(); ++i) {
    const auto* field = limits->field(i);
    const uint64_t limit = maximum.GetReflection()->GetUInt64(maximum, field);
    const auto* capability = capabilities->FindFieldByName(field->name());
    if (capability != nullptr && supported.GetReflection()->GetBool(supported, capability)) {
      changes = changes || limit != kKeepLimit;
    } else if (limit != 0 && limit != kKeepLimit) {
      return absl::InvalidArgumentError(
          fmt::format("maximum.{}: this device does not support this limit", field->name()));
    }
  }
  return changes;
}

absl::StatusOr<std::string> Empty(const absl::Status& status) {
  if (!status.ok()) return status;
  return std::string();
}

}  // namespace

absl::StatusOr<std::string> BuiltIn::Run(const std::string& method, const std::string& request) {
  Call* call = CurrentCall();
  if (call == nullptr) {
    return absl::FailedPreconditionError(
        "a built-in device type can be used only during a call from the agent");
  }
  if (method == "init") return Empty(manager_->Prepare(call->context));
  if (method == "owns_device") return std::string(manager_->OwnsHandle(request) ? "1" : "");
  if (method == "get_qos_capabilities") {
    auto capabilities = manager_->GetQosCapabilities(call->context);
    if (!capabilities.ok()) return capabilities.status();
    return capabilities->SerializeAsString();
  }
  if (method == "create_device") {
    auto parsed = Parsed<CreateDeviceRequest>(request);
    return parsed.ok() ? CreateDevice(*call, *parsed) : parsed.status();
  }
  if (method == "delete_device") {
    auto parsed = Parsed<DeleteDeviceRequest>(request);
    return Empty(parsed.ok() ? DeleteDevice(*call, *parsed) : parsed.status());
  }
  if (method == "attach_volume") {
    auto parsed = Parsed<AttachVolumeRequest>(request);
    return Empty(parsed.ok() ? AttachVolume(*call, *parsed) : parsed.status());
  }
  if (method == "detach_volume") {
    auto parsed = Parsed<DetachVolumeRequest>(request);
    return Empty(parsed.ok() ? DetachVolume(*call, *parsed) : parsed.status());
  }
  if (method == "set_qos") {
    auto parsed = Parsed<SetQosRequest>(request);
    return Empty(parsed.ok() ? SetQos(*call, *parsed) : parsed.status());
  }
  return absl::UnimplementedError(method);
}

// Returns the device of the call, under the handle of this type or of the plugin.
absl::StatusOr<DeviceSpec> BuiltIn::DeviceOf(const Call& call, const std::string& handle) const {
  if (call.device.params.params_case() != CreateDeviceRequest::PARAMS_NOT_SET) {
    absl::StatusOr<DeviceSpec> device = manager_->Describe(call.device.params);
    if (!device.ok()) return device.status();
    device->mark.clear();  // marks of plugins' devices are not recorded
    if (handle == device->handle || handle == call.device.handle) return device;
  }
  return absl::NotFoundError(fmt::format("device_handle: there is no device {}", handle));
}

absl::StatusOr<std::string> BuiltIn::CreateDevice(const Call& call,
                                                  const CreateDeviceRequest& request) {
  absl::StatusOr<DeviceSpec> device = manager_->Describe(request);
  if (!device.ok()) return device.status();
  std::optional<DeviceVolume> volume;
  if (request.has_volume()) {
    absl::StatusOr<DeviceVolume> of_request = VolumeOf(call, request.volume().volume_id());
    if (!of_request.ok()) return of_request.status();
    volume = *std::move(of_request);
  } else if (manager_->traits().needs_volume) {
    return absl::InvalidArgumentError("volume: missing");
  }
  auto existing = manager_->FindExisting(call.context, *device);
  if (!existing.ok()) return existing.status();
  absl::Status status;
  if (!*existing) {
    status = manager_->CreateDevice(call.context, *device, volume ? &*volume : nullptr).status();
  } else if (volume && !Has(**existing, *volume)) {
    if (manager_->traits().needs_volume) {
      return absl::AlreadyExistsError(fmt::format("{} has a different volume", device->handle));
    }
    status = manager_->AttachVolume(call.context, *device, *volume).status();
  }
  if (!status.ok()) return status;
  CreateDeviceResponse response;
  response.set_handle(device->handle);
  return response.SerializeAsString();
}

absl::Status BuiltIn::DeleteDevice(const Call& call, const DeleteDeviceRequest& request) {
  absl::StatusOr<DeviceSpec> device = DeviceOf(call, request.handle());
  if (device.ok()) return manager_->DeleteDevice(call.context, *device, {}).status();
  // The agent does not delete devices that it did not create.
  return manager_->OwnsHandle(request.handle()) ? absl::OkStatus() : device.status();
}

absl::Status BuiltIn::AttachVolume(const Call& call, const AttachVolumeRequest& request) {
  absl::StatusOr<DeviceSpec> device = DeviceOf(call, request.device_handle());
  if (!device.ok()) return device.status();
  absl::StatusOr<DeviceVolume> volume = VolumeOf(call, request.volume().volume_id());
  if (!volume.ok()) return volume.status();
  return manager_->AttachVolume(call.context, *device, *volume).status();
}

absl::Status BuiltIn::DetachVolume(const Call& call, const DetachVolumeRequest& request) {
  absl::StatusOr<DeviceSpec> device = DeviceOf(call, request.device_handle());
  if (!device.ok()) return device.status();
  absl::StatusOr<DeviceVolume> volume = VolumeOf(call, request.volume_id());
  if (!volume.ok()) return volume.status();
  return manager_->DetachVolume(call.context, *device, *volume).status();
}

absl::Status BuiltIn::SetQos(const Call& call, const SetQosRequest& request) {
  absl::StatusOr<DeviceSpec> device = DeviceOf(call, request.device_handle());
  if (!device.ok()) return device.status();
  auto capabilities = manager_->GetQosCapabilities(call.context);
  if (!capabilities.ok()) return capabilities.status();
  const bool of_device = request.volume_id().empty();
  if (of_device && !capabilities->has_max_device_caps()) {
    return absl::InvalidArgumentError(
        fmt::format("volume_id: missing; devices of type {} support limits only for their volumes",
                    manager_->name()));
  }
  absl::StatusOr<bool> changes =
      ChangesLimits(request.maximum(),
                    of_device ? capabilities->max_device_caps() : capabilities->max_volume_caps());
  if (!changes.ok()) return changes.status();
  absl::StatusOr<DeviceVolume> volume = VolumeForQos(call, *device, request.volume_id());
  if (!volume.ok()) return volume.status();
  if (!request.has_maximum() || !*changes) return absl::OkStatus();
  return manager_->SetQos(call.context, *device, &*volume, request.maximum()).status();
}

// Returns the volume whose id is `id` (16 bytes) if the device has it; the device's only volume if
// `id` is empty.
absl::StatusOr<DeviceVolume> BuiltIn::VolumeForQos(const Call& call, const DeviceSpec& device,
                                                   const std::string& id) {
  auto existing = manager_->FindExisting(call.context, device);
  // An operator has changed the device, so it is unknown whether the volume is attached.
  if (absl::IsAlreadyExists(existing.status()) && !id.empty()) return VolumeOf(call, id);
  if (!existing.ok()) return existing.status();
  if (!*existing) return absl::NotFoundError(fmt::format("{} is not on the target", device.handle));
  if (id.empty()) {
    if ((*existing)->volumes.size() == 1) return (*existing)->volumes.front();
    return absl::FailedPreconditionError(fmt::format("{} has no volume", device.handle));
  }
  absl::StatusOr<DeviceVolume> volume = VolumeOf(call, id);
  if (!volume.ok() || Has(**existing, *volume)) return volume;
  return absl::InvalidArgumentError(fmt::format("volume_id: volume {} is not attached to {}",
                                                volume->id.ToString(), device.handle));
}

}  // namespace sma::python
