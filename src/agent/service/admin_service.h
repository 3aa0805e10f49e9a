#pragma once

#include <grpcpp/server_context.h>

#include "agent/service/agent_api.h"
#include "agent/service/unary_call.h"
#include "sma_admin.grpc.pb.h"

namespace sma::service {

/// The admin service on the wire. As SmaService; `watches` are the streams of Watch, which end when
/// their context is cancelled.
class AdminService : public admin::v1::Admin::CallbackService {
 public:
  /// `adoption`: what the calls run with that ask the target.
  AdminService(Admin& admin, const CallEnvironment& environment, const CallEnvironment& adoption,
               InFlight& watches)
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
  Admin& admin_;
  const CallEnvironment environment_;
  const CallEnvironment adoption_;
  InFlight& watches_;
};

}  // namespace sma::service
