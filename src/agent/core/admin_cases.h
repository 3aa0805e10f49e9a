// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <memory>

#include "agent/api/agent_api.h"
#include "agent/core/core.h"
#include "agent/core/row_messages.h"
#include "agent/core/watchers.h"

namespace sma::core {

/// The admin service. Answers from the record without calling the target, except for adoption.
class AdminCases : public api::Admin {
 public:
  /// Both must outlive this object.
  AdminCases(Core& core, Reconciler& reconciler);

  absl::StatusOr<admin::v1::ListDevicesResponse> ListDevices(
      const base::Context& context, const admin::v1::ListDevicesRequest& request) override;
  absl::StatusOr<admin::v1::Device> GetDevice(const base::Context& context,
                                              const admin::v1::GetDeviceRequest& request) override;
  absl::StatusOr<admin::v1::ListVolumesResponse> ListVolumes(
      const base::Context& context, const admin::v1::ListVolumesRequest& request) override;
  absl::StatusOr<admin::v1::Volume> GetVolume(const base::Context& context,
                                              const admin::v1::GetVolumeRequest& request) override;
  absl::StatusOr<admin::v1::Status> GetStatus(const base::Context& context,
                                              const admin::v1::GetStatusRequest& request) override;
  absl::StatusOr<admin::v1::ListPluginsResponse> ListPlugins(
      const base::Context& context, const admin::v1::ListPluginsRequest& request) override;
  absl::StatusOr<admin::v1::ListAdoptionCandidatesResponse> ListAdoptionCandidates(
      const base::Context& context,
      const admin::v1::ListAdoptionCandidatesRequest& request) override;
  absl::StatusOr<admin::v1::Device> AdoptDevice(
      const base::Context& context, const admin::v1::AdoptDeviceRequest& request) override;
  absl::StatusOr<std::unique_ptr<api::Subscription>> Watch(const admin::v1::WatchRequest& request,
                                                           api::WatchSink sink) override;

  /// Sends the status of the agent and the target to the watchers of all objects, and to each
  /// watcher of a single device that device and its volumes.
  void PublishTarget();
  /// Sends a volume and its device to the watchers, after a change that is not in its row.
  void PublishVolume(const base::Uuid& volume);

 private:
  void Publish(const record::Change& change);
  void PublishDevice(const record::Device& row);
  void PublishVolume(const record::Volume& row);
  Watchers::Initial InitialState(const std::string& handle);

  Core& core_;
  const RowMessages messages_;
  std::shared_ptr<Watchers> watchers_ = std::make_shared<Watchers>();
};

}  // namespace sma::core
