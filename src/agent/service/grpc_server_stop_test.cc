// SPDX-License-Identifier: Apache-2.0

// Tests how the server stops: calls in progress finish within a time limit, and no new call starts.

#include <latch>
#include <thread>
#include <vector>

#include "agent/service/testing/server_fixture.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "sma_admin.grpc.pb.h"

namespace sma::service {
namespace {

using base::Context;
using grpc::health::v1::Health;
using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;
using std::chrono::milliseconds;
using std::chrono::steady_clock;
using testing::Return;

using GrpcServerStopTest = ServerFixture;

TEST_F(GrpcServerStopTest, CallsInProgressFinishAndNewCallsAreRefused) {
  StartServer();
  server_->SetServing(true);
  std::latch began(8), go(1);
  EXPECT_CALL(agent_, DeleteDevice).Times(8).WillRepeatedly([&](const Context& context, auto&) {
    began.count_down();
    go.wait();
    EXPECT_TRUE(context.status().ok());
    return DeleteDeviceResponse();
  });
  std::vector<std::thread> callers;
  for (int i = 0; i < 8; ++i) {
    callers.emplace_back([&] { EXPECT_TRUE(Delete("x").ok()); });
  }
  began.wait();
  std::thread stopper([&] { server_->Stop(kPatience); });
  // The health check is refused as soon as the stop has begun, while other calls are still in
  // progress.
  auto health = Health::NewStub(channel_);
  HealthCheckResponse response;
  do {
    grpc::ClientContext context;
    if (!health->Check(&context, {}, &response).ok()) break;
  } while (response.status() != HealthCheckResponse::NOT_SERVING);
  EXPECT_EQ(Delete("late").error_code(), grpc::StatusCode::UNAVAILABLE);
  go.count_down();
  for (std::thread& caller : callers) caller.join();
  stopper.join();
  EXPECT_EQ(Delete("after").error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(GrpcServerStopTest, CallsThatTakeTooLongAreCancelled) {
  StartServer();
  std::latch began(4);
  EXPECT_CALL(agent_, DeleteDevice).Times(4).WillRepeatedly([&](const Context& context, auto&) {
    began.count_down();
    return absl::StatusOr<DeleteDeviceResponse>(context.SleepUntil(base::TimePoint::max()));
  });
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([&] { EXPECT_EQ(Delete("x").error_code(), grpc::StatusCode::CANCELLED); });
  }
  began.wait();
  auto before = steady_clock::now();
  server_->Stop(milliseconds(100));
  EXPECT_LT(steady_clock::now() - before, kPatience);
  for (std::thread& caller : callers) caller.join();
}

TEST_F(GrpcServerStopTest, StopIsIdempotent) {
  StartServer();
  server_->Stop(kPatience);
  server_->Stop(kPatience);
  server_.reset();
}

TEST_F(GrpcServerStopTest, WatchersDoNotDelayTheStop) {
  StartServer();
  EXPECT_CALL(admin_, Watch).WillOnce([](auto&, const api::WatchSink& sink) {
    sink(std::make_shared<admin::v1::WatchResponse>());
    return std::make_unique<api::Subscription>();
  });
  auto admin = admin::v1::Admin::NewStub(channel_);
  grpc::ClientContext watch_context;
  auto watch = admin->Watch(&watch_context, {});
  admin::v1::WatchResponse change;
  ASSERT_TRUE(watch->Read(&change));
  auto health = Health::NewStub(channel_);
  grpc::ClientContext health_context;
  auto health_watch = health->Watch(&health_context, {});
  HealthCheckResponse response;
  ASSERT_TRUE(health_watch->Read(&response));

  auto before = steady_clock::now();
  server_->Stop(kPatience);
  EXPECT_LT(steady_clock::now() - before, kPatience / 2);
  EXPECT_FALSE(watch->Read(&change));
  EXPECT_EQ(watch->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_FALSE(health_watch->Read(&response));
  EXPECT_EQ(health_watch->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
}

using HealthTest = ServerFixture;

TEST_F(HealthTest, FollowsSetServing) {
  StartServer();
  auto health = Health::NewStub(channel_);
  auto check = [&](const std::string& service) {
    grpc::ClientContext context;
    HealthCheckRequest request;
    request.set_service(service);
    HealthCheckResponse response;
    grpc::Status status = health->Check(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.status();
  };
  EXPECT_EQ(check(""), HealthCheckResponse::NOT_SERVING) << "the initial status";
  server_->SetServing(true);
  EXPECT_EQ(check(""), HealthCheckResponse::SERVING);
  EXPECT_EQ(check("sma.StorageManagementAgent"), HealthCheckResponse::SERVING);
  server_->SetServing(false);
  EXPECT_EQ(check("sma.StorageManagementAgent"), HealthCheckResponse::NOT_SERVING);

  grpc::ClientContext context;
  HealthCheckRequest request;
  request.set_service("no.such.Service");
  HealthCheckResponse response;
  EXPECT_EQ(health->Check(&context, request, &response).error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(HealthTest, WatchersSeeEachChange) {
  StartServer();
  auto health = Health::NewStub(channel_);
  grpc::ClientContext context, unknown_context;
  auto watch = health->Watch(&context, {});
  HealthCheckResponse response;
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::NOT_SERVING);
  server_->SetServing(true);
  server_->SetServing(true);
  server_->SetServing(false);
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::SERVING);
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::NOT_SERVING);
  server_->SetServing(true);
  server_->Stop(kPatience);
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::SERVING);
  ASSERT_TRUE(watch->Read(&response)) << "the stop is reported before the stream ends";
  EXPECT_EQ(response.status(), HealthCheckResponse::NOT_SERVING);
  EXPECT_FALSE(watch->Read(&response));
}

TEST_F(HealthTest, AWatcherOfAnUnknownServiceReceivesServiceUnknown) {
  StartServer();
  auto health = Health::NewStub(channel_);
  grpc::ClientContext context;
  HealthCheckRequest request;
  request.set_service("no.such.Service");
  auto watch = health->Watch(&context, request);
  HealthCheckResponse response;
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::SERVICE_UNKNOWN);
  context.TryCancel();
  EXPECT_EQ(watch->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

}  // namespace
}  // namespace sma::service
