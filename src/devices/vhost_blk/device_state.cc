// SPDX-License-Identifier: Apache-2.0

#include "devices/vhost_blk/device_state.h"

#include <fmt/format.h>

#include "devices/vhost_blk/params.h"

namespace sma::vhost_blk {

bool IsReplaced(const DeviceState& state) {
  const std::string expected = state.bdev_name.value_or(state.attachment);
  return state.controller && !state.controller->bdev_name.empty() && !expected.empty() &&
         state.controller->bdev_name != expected;
}

std::vector<std::string> Differences(const DeviceSpec& device, const DeviceState& state) {
  const std::string name = ControllerName(device);
  std::vector<std::string> words;
  if (!state.controller) {
    words.push_back(fmt::format("vhost controller {} is missing", name));
  } else if (state.controller->bdev_name.empty()) {
    words.push_back(fmt::format("the bdev of vhost controller {} no longer exists", name));
  } else if (IsReplaced(state)) {
    words.push_back(
        fmt::format("vhost controller {} has bdev {}", name, state.controller->bdev_name));
  }
  if (state.plug.ok() && !state.plug->is_plugged) {
    words.push_back(fmt::format("{} is not plugged into its VM", name));
  }
  return words;
}

void SetResults(const RestoreRequest& request, const absl::StatusOr<DeviceState>& state,
                const absl::Status& error, RestoreResult& result) {
  const std::string name = ControllerName(request.device);
  auto missing = [&error](std::string what) {
    if (!error.ok()) what += fmt::format(": {}", std::string(error.message()));
    return absl::Status(error.ok() ? absl::StatusCode::kUnavailable : error.code(), what);
  };
  if (!state.ok()) {
    result.status = state.status();
  } else if (!state->controller) {
    result.status = missing(fmt::format("vhost controller {} is missing", name));
  } else if (!state->plug.ok()) {
    result.status = state->plug.status();
  } else if (!state->plug->is_plugged) {
    result.status = missing(fmt::format("{} is not plugged into its VM", name));
  } else {
    result.status = state->plug->obstacle;  // it is in another VM than configured
  }
  const bool has_volume = state.ok() && state->controller && state->bdev_name &&
                          state->controller->bdev_name == *state->bdev_name;
  for (size_t i = 0; i < request.volumes.size(); ++i) {
    if (i == 0 && has_volume) {
      result.volumes[i].attachment = *state->bdev_name;
      continue;
    }
    result.volumes[i].attachment =
        missing(fmt::format("volume {} is not the volume of {}", request.volumes[i].id.ToString(),
                            request.device.handle));
  }
}

}  // namespace sma::vhost_blk
