// SPDX-License-Identifier: Apache-2.0

#include "agent/service/sma_service.h"

#include <functional>

#include "agent/service/raw_call.h"

namespace sma::service {

grpc::ServerUnaryReactor* SmaService::CreateDevice(grpc::CallbackServerContext* context,
                                                   const grpc::ByteBuffer* message,
                                                   grpc::ByteBuffer* response) {
  auto request = TakeMessage<CreateDeviceRequest>(*message);
  if (!request) return RefuseMessage(*context);
  return StartRawCall<CreateDeviceResponse>(
      EnvironmentFor(*request), *context, "CreateDevice", request, response,
      std::bind_front(&api::Agent::CreateDevice, &agent_), agent_.NeighbourOf(*request));
}

grpc::ServerUnaryReactor* SmaService::DeleteDevice(grpc::CallbackServerContext* context,
                                                   const DeleteDeviceRequest* request,
                                                   DeleteDeviceResponse* response) {
  return StartCall(EnvironmentFor(request->handle()), *context, "DeleteDevice", Access::kChanges,
                   request, response, std::bind_front(&api::Agent::DeleteDevice, &agent_),
                   agent_.NeighbourOf(*request));
}

grpc::ServerUnaryReactor* SmaService::AttachVolume(grpc::CallbackServerContext* context,
                                                   const grpc::ByteBuffer* message,
                                                   grpc::ByteBuffer* response) {
  auto request = TakeMessage<AttachVolumeRequest>(*message);
  if (!request) return RefuseMessage(*context);
  return StartRawCall<AttachVolumeResponse>(
      EnvironmentFor(request->device_handle()), *context, "AttachVolume", request, response,
      std::bind_front(&api::Agent::AttachVolume, &agent_), agent_.NeighbourOf(*request));
}

grpc::ServerUnaryReactor* SmaService::DetachVolume(grpc::CallbackServerContext* context,
                                                   const DetachVolumeRequest* request,
                                                   DetachVolumeResponse* response) {
  return StartCall(
      EnvironmentFor(request->device_handle()), *context, "DetachVolume", Access::kChanges, request,
      response, std::bind_front(&api::Agent::DetachVolume, &agent_), agent_.NeighbourOf(*request));
}

grpc::ServerUnaryReactor* SmaService::SetQos(grpc::CallbackServerContext* context,
                                             const SetQosRequest* request,
                                             SetQosResponse* response) {
  return StartCall(EnvironmentFor(request->device_handle()), *context, "SetQos", Access::kChanges,
                   request, response, std::bind_front(&api::Agent::SetQos, &agent_),
                   agent_.NeighbourOf(*request));
}

grpc::ServerUnaryReactor* SmaService::GetQosCapabilities(grpc::CallbackServerContext* context,
                                                         const GetQosCapabilitiesRequest* request,
                                                         GetQosCapabilitiesResponse* response) {
  const bool is_plugins = agent_.IsPlugins(request->device_type());
  return StartCall(is_plugins ? plugins_ : reads_, *context, "GetQosCapabilities", Access::kReads,
                   request, response, std::bind_front(&api::Agent::GetQosCapabilities, &agent_));
}

}  // namespace sma::service
