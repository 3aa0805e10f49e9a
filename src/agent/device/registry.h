// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "sma/device_manager.h"

namespace sma::device {

/// The enabled device types. Filled before the first call; thread-safe afterwards.
class Registry {
 public:
  /// Returns ALREADY_EXISTS if a manager with this name or protocol is registered.
  absl::Status Add(std::unique_ptr<DeviceManager> manager);

  /// Returns the manager for the type in `request`. Returns INVALID_ARGUMENT if the request names
  /// no type or one that is not enabled.
  absl::StatusOr<DeviceManager*> ForRequest(const CreateDeviceRequest& request) const;

  /// Returns INVALID_ARGUMENT if the type is unknown or not enabled.
  absl::StatusOr<DeviceManager*> ForType(DeviceType type) const;

  /// Returns the manager whose handles have the form of `handle`; null if there is none.
  DeviceManager* ForHandle(std::string_view handle) const;

  /// Returns null if no manager has this name.
  DeviceManager* ForName(std::string_view name) const;

  const std::vector<std::unique_ptr<DeviceManager>>& managers() const { return managers_; }

 private:
  std::vector<std::unique_ptr<DeviceManager>> managers_;
};

}  // namespace sma::device
