#pragma once

#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>

#include <chrono>
#include <memory>
#include <string>

#include "sma.grpc.pb.h"
#include "sma_admin.grpc.pb.h"

namespace sma::cli {

/// An agent in the test's own process: keeps the last request of each method, answers what it is
/// told.
class FakeAgent final : public sma::StorageManagementAgent::Service,
                        public sma::admin::v1::Admin::Service {
 public:
  /// Listens on `address` ("unix:PATH", "localhost:0").
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
    response->set_device_handle("nvmf-tcp:nqn.x:1");
    response->mutable_qos()->set_rw_iops(5);
    return status;
  }
  grpc::Status GetDevice(grpc::ServerContext*, const sma::admin::v1::GetDeviceRequest* request,
                         sma::admin::v1::Device* response) override {
    get_device = *request;
    response->mutable_qos()->set_rd_bandwidth(200);
    return status;
  }

  grpc::Status status;  // of every answer
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
};

}  // namespace sma::cli
