#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "sma/device_manager.h"

namespace sma::device {

/// The device types that are enabled. Filled before the first call; thread-safe afterwards.
class Registry {
 public:
  /// ALREADY_EXISTS: a manager of this name or protocol is there.
  absl::Status Add(std::unique_ptr<DeviceManager> manager);

  /// The manager for what `request` asks for. INVALID_ARGUMENT: it names no type, or none that is
  /// enabled.
  absl::StatusOr<DeviceManager*> ForRequest(const CreateDeviceRequest& request) const;

  /// INVALID_ARGUMENT: no such type, or not enabled.
  absl::StatusOr<DeviceManager*> ForType(DeviceType type) const;

  /// The manager whose handles have the form of `handle`; null when there is none.
  DeviceManager* ForHandle(std::string_view handle) const;

  /// Null when there is none of this name.
  DeviceManager* ForName(std::string_view name) const;

  const std::vector<std::unique_ptr<DeviceManager>>& managers() const { return managers_; }

 private:
  std::vector<std::unique_ptr<DeviceManager>> managers_;
};

}  // namespace sma::device
