// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <grpcpp/server_context.h>

#include "agent/api/agent_api.h"
#include "agent/service/unary_call.h"
#include "sma.grpc.pb.h"

namespace sma::service {

/// The methods of the published service. Methods whose requests contain secrets receive the request
/// as raw bytes, so that it can be overwritten.
using SmaServiceBase = StorageManagementAgent::WithRawCallbackMethod_CreateDevice<
    StorageManagementAgent::WithCallbackMethod_DeleteDevice<
        StorageManagementAgent::WithRawCallbackMethod_AttachVolume<
            StorageManagementAgent::WithCallbackMethod_DetachVolume<
                StorageManagementAgent::WithCallbackMethod_SetQos<
                    StorageManagementAgent::WithCallbackMethod_GetQosCapabilities<
                        StorageManagementAgent::Service>>>>>>;

/// The gRPC service of the published API: each method starts a call of the corresponding Agent
/// method. gRPC calls the service on gRPC's own threads, which the service never blocks.
class SmaService : public SmaServiceBase {
 public:
  /// `plugins` is the environment of calls for devices of plugins; `reads` is the environment of
  /// calls that do not wait for the target.
  SmaService(api::Agent& agent, const CallEnvironment& environment, const CallEnvironment& plugins,
             const CallEnvironment& reads)
      : agent_(agent), environment_(environment), plugins_(plugins), reads_(reads) {}

  grpc::ServerUnaryReactor* CreateDevice(grpc::CallbackServerContext* context,
                                         const grpc::ByteBuffer* message,
                                         grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* DeleteDevice(grpc::CallbackServerContext* context,
                                         const DeleteDeviceRequest* request,
                                         DeleteDeviceResponse* response) override;
  grpc::ServerUnaryReactor* AttachVolume(grpc::CallbackServerContext* context,
                                         const grpc::ByteBuffer* message,
                                         grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* DetachVolume(grpc::CallbackServerContext* context,
                                         const DetachVolumeRequest* request,
                                         DetachVolumeResponse* response) override;
  grpc::ServerUnaryReactor* SetQos(grpc::CallbackServerContext* context,
                                   const SetQosRequest* request, SetQosResponse* response) override;
  grpc::ServerUnaryReactor* GetQosCapabilities(grpc::CallbackServerContext* context,
                                               const GetQosCapabilitiesRequest* request,
                                               GetQosCapabilitiesResponse* response) override;

 private:
  template <typename Subject>
  const CallEnvironment& EnvironmentFor(const Subject& subject) const {
    return agent_.IsPlugins(subject) ? plugins_ : environment_;
  }

  api::Agent& agent_;
  const CallEnvironment environment_;
  const CallEnvironment plugins_;
  const CallEnvironment reads_;
};

}  // namespace sma::service
