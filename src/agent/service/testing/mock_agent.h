// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <gmock/gmock.h>

#include <memory>

#include "agent/api/agent_api.h"

namespace sma::service {

class MockAgent : public api::Agent {
 public:
  MOCK_METHOD(absl::StatusOr<CreateDeviceResponse>, CreateDevice,
              (const base::Context&, const CreateDeviceRequest&), (override));
  MOCK_METHOD(absl::StatusOr<DeleteDeviceResponse>, DeleteDevice,
              (const base::Context&, const DeleteDeviceRequest&), (override));
  MOCK_METHOD(absl::StatusOr<AttachVolumeResponse>, AttachVolume,
              (const base::Context&, const AttachVolumeRequest&), (override));
  MOCK_METHOD(absl::StatusOr<DetachVolumeResponse>, DetachVolume,
              (const base::Context&, const DetachVolumeRequest&), (override));
  MOCK_METHOD(absl::StatusOr<SetQosResponse>, SetQos, (const base::Context&, const SetQosRequest&),
              (override));
  MOCK_METHOD(absl::StatusOr<GetQosCapabilitiesResponse>, GetQosCapabilities,
              (const base::Context&, const GetQosCapabilitiesRequest&), (override));
  using api::Agent::IsPlugins;
  MOCK_METHOD(bool, IsPlugins, (std::string_view), (const, override));
};

class MockAdmin : public api::Admin {
 public:
  MOCK_METHOD(absl::StatusOr<admin::v1::ListDevicesResponse>, ListDevices,
              (const base::Context&, const admin::v1::ListDevicesRequest&), (override));
  MOCK_METHOD(absl::StatusOr<admin::v1::Device>, GetDevice,
              (const base::Context&, const admin::v1::GetDeviceRequest&), (override));
  MOCK_METHOD(absl::StatusOr<admin::v1::ListVolumesResponse>, ListVolumes,
              (const base::Context&, const admin::v1::ListVolumesRequest&), (override));
  MOCK_METHOD(absl::StatusOr<admin::v1::Volume>, GetVolume,
              (const base::Context&, const admin::v1::GetVolumeRequest&), (override));
  MOCK_METHOD(absl::StatusOr<admin::v1::Status>, GetStatus,
              (const base::Context&, const admin::v1::GetStatusRequest&), (override));
  MOCK_METHOD(absl::StatusOr<admin::v1::ListPluginsResponse>, ListPlugins,
              (const base::Context&, const admin::v1::ListPluginsRequest&), (override));
  MOCK_METHOD(absl::StatusOr<admin::v1::ListAdoptionCandidatesResponse>, ListAdoptionCandidates,
              (const base::Context&, const admin::v1::ListAdoptionCandidatesRequest&), (override));
  MOCK_METHOD(absl::StatusOr<admin::v1::Device>, AdoptDevice,
              (const base::Context&, const admin::v1::AdoptDeviceRequest&), (override));
  MOCK_METHOD(absl::StatusOr<std::unique_ptr<api::Subscription>>, Watch,
              (const admin::v1::WatchRequest&, api::WatchSink), (override));
};

}  // namespace sma::service
