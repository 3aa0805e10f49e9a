// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/core/core.h"
#include "base/context.h"

namespace sma::core {

// The methods of the published service, each in its own file, whose steps can be read from top to
// bottom: check, lock, write the intent (Operation), change the target, and write the outcome or
// roll back. `context` has a deadline.

absl::StatusOr<CreateDeviceResponse> CreateDevice(Core& core, const base::Context& context,
                                                  const CreateDeviceRequest& request);
absl::StatusOr<DeleteDeviceResponse> DeleteDevice(Core& core, const base::Context& context,
                                                  const DeleteDeviceRequest& request);
absl::StatusOr<AttachVolumeResponse> AttachVolume(Core& core, const base::Context& context,
                                                  const AttachVolumeRequest& request);
absl::StatusOr<DetachVolumeResponse> DetachVolume(Core& core, const base::Context& context,
                                                  const DetachVolumeRequest& request);
absl::StatusOr<SetQosResponse> SetQos(Core& core, const base::Context& context,
                                      const SetQosRequest& request);
absl::StatusOr<GetQosCapabilitiesResponse> GetQosCapabilities(
    Core& core, const base::Context& context, const GetQosCapabilitiesRequest& request);

}  // namespace sma::core
