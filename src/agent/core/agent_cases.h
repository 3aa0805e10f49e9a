// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <string>
#include <string_view>

#include "agent/api/agent_api.h"
#include "agent/core/core.h"
#include "base/context.h"

namespace sma::core {

/// Implements the published service: calls the use cases (use_cases.h) with a deadline, and returns
/// DEADLINE_EXCEEDED for a call that failed only because its deadline passed.
class AgentCases : public api::Agent {
 public:
  /// `core` must outlive this object.
  explicit AgentCases(Core& core) : core_(core) {}

  absl::StatusOr<CreateDeviceResponse> CreateDevice(const base::Context& context,
                                                    const CreateDeviceRequest& request) override;
  absl::StatusOr<DeleteDeviceResponse> DeleteDevice(const base::Context& context,
                                                    const DeleteDeviceRequest& request) override;
  absl::StatusOr<AttachVolumeResponse> AttachVolume(const base::Context& context,
                                                    const AttachVolumeRequest& request) override;
  absl::StatusOr<DetachVolumeResponse> DetachVolume(const base::Context& context,
                                                    const DetachVolumeRequest& request) override;
  absl::StatusOr<SetQosResponse> SetQos(const base::Context& context,
                                        const SetQosRequest& request) override;
  absl::StatusOr<GetQosCapabilitiesResponse> GetQosCapabilities(
      const base::Context& context, const GetQosCapabilitiesRequest& request) override;
  bool IsPlugins(const CreateDeviceRequest& request) const override;
  bool IsPlugins(std::string_view handle) const override;
  bool IsPlugins(DeviceType type) const override;
  api::Neighbour NeighbourOf(const CreateDeviceRequest& request) const override;
  api::Neighbour NeighbourOf(const DeleteDeviceRequest& request) const override;
  api::Neighbour NeighbourOf(const AttachVolumeRequest& request) const override;
  api::Neighbour NeighbourOf(const DetachVolumeRequest& request) const override;
  api::Neighbour NeighbourOf(const SetQosRequest& request) const override;

 private:
  template <typename Response, typename Request>
  absl::StatusOr<Response> Run(absl::StatusOr<Response> (*use_case)(Core&, const base::Context&,
                                                                    const Request&),
                               const base::Context& caller, const Request& request);

  api::Neighbour NeighbourOfDevice(const std::string& handle) const;
  api::Neighbour DeviceAsNeighbour(const std::string& handle) const;
  std::string NeighbourOfVolume(const std::string& volume_id) const;

  Core& core_;
};

}  // namespace sma::core
