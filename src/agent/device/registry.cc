// SPDX-License-Identifier: Apache-2.0

#include "agent/device/registry.h"

#include <fmt/format.h>

#include <string>
#include <utility>

#include "sma/device_params.h"

namespace sma::device {

absl::Status Registry::Add(std::unique_ptr<DeviceManager> manager) {
  for (const auto& other : managers_) {
    if (other->name() == manager->name() || other->protocol() == manager->protocol()) {
      return absl::AlreadyExistsError(
          fmt::format("device types {} and {} both implement protocol {}", other->name(),
                      manager->name(), other->protocol()));
    }
  }
  managers_.push_back(std::move(manager));
  return absl::OkStatus();
}

absl::StatusOr<DeviceManager*> Registry::ForRequest(const CreateDeviceRequest& request) const {
  const auto* field = ParamsField(request);
  if (field == nullptr) return absl::InvalidArgumentError("params: missing");
  for (const auto& manager : managers_) {
    if (manager->protocol() == field->name()) return manager.get();
  }
  return absl::InvalidArgumentError(
      fmt::format("params: device type {} is not enabled", field->name()));
}

absl::StatusOr<DeviceManager*> Registry::ForType(DeviceType type) const {
  for (const auto& manager : managers_) {
    if (manager->type() == type) return manager.get();
  }
  const std::string name =
      DeviceType_IsValid(type) ? DeviceType_Name(type) : std::to_string(static_cast<int>(type));
  return absl::InvalidArgumentError(
      fmt::format("device_type: {} is not an enabled device type", name));
}

DeviceManager* Registry::ForHandle(std::string_view handle) const {
  // Managers of types that choose handles themselves are queried last, because the query is a
  // remote call and may take time.
  for (bool names_devices : {false, true}) {
    for (const auto& manager : managers_) {
      if (manager->traits().names_devices == names_devices && manager->OwnsHandle(handle)) {
        return manager.get();
      }
    }
  }
  return nullptr;
}

DeviceManager* Registry::ForName(std::string_view name) const {
  for (const auto& manager : managers_) {
    if (manager->name() == name) return manager.get();
  }
  return nullptr;
}

}  // namespace sma::device
