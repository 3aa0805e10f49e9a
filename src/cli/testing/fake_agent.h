// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "sma.grpc.pb.h"
#include "sma_admin.grpc.pb.h"

namespace sma::cli {

/// An agent in the test's process: stores the last request of each method and returns preset
/// responses.
class FakeAgent final : public sma::StorageManagementAgent::Service,
                        public sma::admin::v1::Admin::Service {
 public:
  /// Listens on `address` (for example "unix:PATH" or "localhost:0").
  explicit FakeAgent(
      const std::string& address,
      std::shared_ptr<grpc::ServerCredentials> credentials = grpc::InsecureServerCredentials()) {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::ServerBuilder builder;
    builder.AddListeningPort(address, std::move(credentials), &port);
    builder.RegisterService(static_cast<sma::StorageManagementAgent::Service*>(this));
    builder.RegisterService(static_cast<sma::admin::v1::Admin::Service*>(this));
    server = builder.BuildAndStart();
  }
  ~FakeAgent() override { server->Shutdown(std::chrono::system_clock::now()); }

  grpc::Status CreateDevice(grpc::ServerContext* context, const sma::CreateDeviceRequest* request,
                            sma::CreateDeviceResponse* response) override {
    create_device = *request;
    deadline = context->deadline();
    response->set_handle("nvmf-tcp:nqn.x:1");
    return status;
  }
  grpc::Status DeleteDevice(grpc::ServerContext*, const sma::DeleteDeviceRequest* request,
                            sma::DeleteDeviceResponse*) override {
    delete_device = *request;
    return status;
  }
  grpc::Status AttachVolume(grpc::ServerContext*, const sma::AttachVolumeRequest* request,
                            sma::AttachVolumeResponse*) override {
    attach_volume = *request;
    return status;
  }
  grpc::Status DetachVolume(grpc::ServerContext*, const sma::DetachVolumeRequest* request,
                            sma::DetachVolumeResponse*) override {
    detach_volume = *request;
    return status;
  }
  grpc::Status SetQos(grpc::ServerContext*, const sma::SetQosRequest* request,
                      sma::SetQosResponse*) override {
    set_qos = *request;
    return status;
  }
  grpc::Status GetQosCapabilities(grpc::ServerContext*,
                                  const sma::GetQosCapabilitiesRequest* request,
                                  sma::GetQosCapabilitiesResponse* response) override {
    get_qos_capabilities = *request;
    response->mutable_max_volume_caps()->set_rw_iops(true);
    response->mutable_max_device_caps()->set_rd_bandwidth(true);
    return status;
  }
  grpc::Status GetVolume(grpc::ServerContext*, const sma::admin::v1::GetVolumeRequest* request,
                         sma::admin::v1::Volume* response) override {
    get_volume = *request;
    if (!has_objects) return grpc::Status(grpc::StatusCode::NOT_FOUND, "no such volume");
    *response = volume;
    response->set_device_handle("nvmf-tcp:nqn.x:1");
    response->mutable_qos()->set_rw_iops(5);
    return status;
  }
  grpc::Status GetDevice(grpc::ServerContext*, const sma::admin::v1::GetDeviceRequest* request,
                         sma::admin::v1::Device* response) override {
    get_device = *request;
    if (!has_objects) return grpc::Status(grpc::StatusCode::NOT_FOUND, "no such device");
    *response = device;
    response->mutable_qos()->set_rd_bandwidth(200);
    return status;
  }

  // Returns pages of one element, whatever the requested size.
  grpc::Status ListDevices(grpc::ServerContext*, const sma::admin::v1::ListDevicesRequest* request,
                           sma::admin::v1::ListDevicesResponse* response) override {
    list_devices = *request;
    const size_t at = request->page_token().empty() ? 0 : std::stoul(request->page_token());
    if (at < devices.size()) *response->add_devices() = devices[at];
    if (at + 1 < devices.size()) response->set_next_page_token(std::to_string(at + 1));
    return status;
  }
  grpc::Status ListVolumes(grpc::ServerContext*, const sma::admin::v1::ListVolumesRequest* request,
                           sma::admin::v1::ListVolumesResponse* response) override {
    list_volumes = *request;
    const size_t at = request->page_token().empty() ? 0 : std::stoul(request->page_token());
    if (at < volumes.size()) *response->add_volumes() = volumes[at];
    if (at + 1 < volumes.size()) response->set_next_page_token(std::to_string(at + 1));
    return status;
  }
  grpc::Status GetStatus(grpc::ServerContext*, const sma::admin::v1::GetStatusRequest*,
                         sma::admin::v1::Status* response) override {
    *response = agent_status;
    return status;
  }
  grpc::Status ListPlugins(grpc::ServerContext*, const sma::admin::v1::ListPluginsRequest*,
                           sma::admin::v1::ListPluginsResponse* response) override {
    *response = plugins;
    return status;
  }
  grpc::Status ListAdoptionCandidates(
      grpc::ServerContext*, const sma::admin::v1::ListAdoptionCandidatesRequest*,
      sma::admin::v1::ListAdoptionCandidatesResponse* response) override {
    *response = candidates;
    return status;
  }
  grpc::Status AdoptDevice(grpc::ServerContext*, const sma::admin::v1::AdoptDeviceRequest* request,
                           sma::admin::v1::Device* response) override {
    adopted.push_back(*request);
    response->set_handle(request->handle());
    return status;
  }
  // Sends `changes`, and then ends with `status`; if `hold_watch` is set, it ends only when the
  // caller ends the stream.
  grpc::Status Watch(grpc::ServerContext* context, const sma::admin::v1::WatchRequest* request,
                     grpc::ServerWriter<sma::admin::v1::WatchResponse>* writer) override {
    watch = *request;
    for (const auto& change : changes) writer->Write(change);
    while (hold_watch && !context->IsCancelled()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return status;
  }

  grpc::Status status;  // returned by every method
  int port = 0;
  std::unique_ptr<grpc::Server> server;
  std::chrono::system_clock::time_point deadline;
  sma::CreateDeviceRequest create_device;
  sma::DeleteDeviceRequest delete_device;
  sma::AttachVolumeRequest attach_volume;
  sma::DetachVolumeRequest detach_volume;
  sma::SetQosRequest set_qos;
  sma::GetQosCapabilitiesRequest get_qos_capabilities;
  sma::admin::v1::GetVolumeRequest get_volume;
  sma::admin::v1::GetDeviceRequest get_device;
  sma::admin::v1::ListDevicesRequest list_devices;
  sma::admin::v1::ListVolumesRequest list_volumes;
  sma::admin::v1::WatchRequest watch;
  std::vector<sma::admin::v1::AdoptDeviceRequest> adopted;
  // The preset responses.
  sma::admin::v1::Device device;
  sma::admin::v1::Volume volume;
  std::vector<sma::admin::v1::Device> devices;
  std::vector<sma::admin::v1::Volume> volumes;
  sma::admin::v1::Status agent_status;
  sma::admin::v1::ListPluginsResponse plugins;
  sma::admin::v1::ListAdoptionCandidatesResponse candidates;
  std::vector<sma::admin::v1::WatchResponse> changes;
  bool hold_watch = false;
  bool has_objects = true;  // false: GetDevice and GetVolume find nothing
};

}  // namespace sma::cli
