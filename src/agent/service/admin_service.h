// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <grpcpp/server_context.h>

#include "agent/api/agent_api.h"
#include "agent/service/event_stream.h"
#include "agent/service/unary_call.h"
#include "sma_admin.grpc.pb.h"

namespace sma::service {

/// The gRPC service of the admin API; see SmaService for the common rules. `watches` contains the
/// streams of Watch, which end when their context is cancelled.
class AdminService : public admin::v1::Admin::CallbackService {
 public:
  /// `adoption` is the environment of the calls that query the target.
  AdminService(api::Admin& admin, const CallEnvironment& environment,
               const CallEnvironment& adoption, InFlight& watches)
      : admin_(admin), environment_(environment), adoption_(adoption), watches_(watches) {}

  grpc::ServerUnaryReactor* ListDevices(grpc::CallbackServerContext* context,
                                        const admin::v1::ListDevicesRequest* request,
                                        admin::v1::ListDevicesResponse* response) override;
  grpc::ServerUnaryReactor* GetDevice(grpc::CallbackServerContext* context,
                                      const admin::v1::GetDeviceRequest* request,
                                      admin::v1::Device* response) override;
  grpc::ServerUnaryReactor* ListVolumes(grpc::CallbackServerContext* context,
                                        const admin::v1::ListVolumesRequest* request,
                                        admin::v1::ListVolumesResponse* response) override;
  grpc::ServerUnaryReactor* GetVolume(grpc::CallbackServerContext* context,
                                      const admin::v1::GetVolumeRequest* request,
                                      admin::v1::Volume* response) override;
  grpc::ServerUnaryReactor* GetStatus(grpc::CallbackServerContext* context,
                                      const admin::v1::GetStatusRequest* request,
                                      admin::v1::Status* response) override;
  grpc::ServerUnaryReactor* ListPlugins(grpc::CallbackServerContext* context,
                                        const admin::v1::ListPluginsRequest* request,
                                        admin::v1::ListPluginsResponse* response) override;
  grpc::ServerUnaryReactor* ListAdoptionCandidates(
      grpc::CallbackServerContext* context, const admin::v1::ListAdoptionCandidatesRequest* request,
      admin::v1::ListAdoptionCandidatesResponse* response) override;
  grpc::ServerUnaryReactor* AdoptDevice(grpc::CallbackServerContext* context,
                                        const admin::v1::AdoptDeviceRequest* request,
                                        admin::v1::Device* response) override;
  grpc::ServerWriteReactor<admin::v1::WatchResponse>* Watch(
      grpc::CallbackServerContext* context, const admin::v1::WatchRequest* request) override;

 private:
  // A change takes about 1 KiB, regardless of how many watchers have it queued.
  static constexpr size_t kMaxQueuedTogether = 65'536;

  api::Admin& admin_;
  const CallEnvironment environment_;
  const CallEnvironment adoption_;
  InFlight& watches_;
  QueueBudget budget_{kMaxQueuedTogether};
};

}  // namespace sma::service
