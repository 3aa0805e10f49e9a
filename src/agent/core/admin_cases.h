#pragma once

#include <memory>

#include "agent/core/core.h"
#include "agent/core/watchers.h"
#include "agent/service/agent_api.h"

namespace sma::core {

class Reconciler;

/// The admin service: what is in the record, without asking the target, but for adoption.
class AdminCases : public service::Admin {
 public:
  /// Both outlive this.
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
  absl::StatusOr<std::unique_ptr<service::Subscription>> Watch(
      const admin::v1::WatchRequest& request, service::WatchSink sink) override;

  /// Has watchers hear how the agent and its target are.
  void TellStatus();
  /// Has watchers hear of a volume of which something but its row has changed.
  void TellVolume(const base::Uuid& volume);

 private:
  void Tell(const record::Change& change);
  Watchers::Initial InitialState(const std::string& handle);
  admin::v1::Device Message(const record::Device& row) const;
  admin::v1::Volume Message(const record::Volume& row) const;
  admin::v1::Status StatusMessage() const;
  absl::StatusOr<std::vector<AdoptionCandidate>> Candidates(const base::Context& context,
                                                            DeviceManager& manager) const;

  Core& core_;
  Reconciler& reconciler_;
  std::shared_ptr<Watchers> watchers_ = std::make_shared<Watchers>();
};

}  // namespace sma::core
