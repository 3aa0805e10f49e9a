// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>

#include "agent/service/grpc_server.h"
#include "agent/service/testing/mock_agent.h"
#include "sma.grpc.pb.h"

namespace sma::service {

/// A server on a free port of the loopback interface, backed by a mock agent.
class ServerFixture : public testing::Test {
 protected:
  /// How long a test waits for an expected event before it fails.
  static constexpr std::chrono::seconds kPatience{20};

  void StartServer(GrpcServerOptions options = {}) {
    if (options.address == "localhost") options.address = "127.0.0.1";
    if (options.port == 8080) options.port = 0;
    auto server = GrpcServer::Start(agent_, admin_, std::move(options));
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    channel_ =
        grpc::CreateChannel(server_->addresses().front(), grpc::InsecureChannelCredentials());
    stub_ = StorageManagementAgent::NewStub(channel_);
  }

  /// Calls DeleteDevice of `handle` with a deadline of kPatience.
  grpc::Status Delete(const std::string& handle) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + kPatience);
    return Delete(context, handle);
  }

  grpc::Status Delete(grpc::ClientContext& context, const std::string& handle) {
    DeleteDeviceRequest request;
    request.set_handle(handle);
    DeleteDeviceResponse response;
    return stub_->DeleteDevice(&context, request, &response);
  }

  testing::NiceMock<MockAgent> agent_;
  testing::NiceMock<MockAdmin> admin_;
  std::unique_ptr<GrpcServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<StorageManagementAgent::Stub> stub_;
};

}  // namespace sma::service
