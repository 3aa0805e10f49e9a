// SPDX-License-Identifier: Apache-2.0

#include "agent/service/grpc_server.h"

#include <grpcpp/generic/generic_stub.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <latch>
#include <semaphore>
#include <sstream>
#include <stdexcept>
#include <thread>
#include <vector>

#include "agent/service/testing/server_fixture.h"

namespace sma::service {
namespace {

using base::Context;
using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::system_clock;
using testing::_;
using testing::HasSubstr;
using testing::Return;

using GrpcServerTest = ServerFixture;

TEST_F(GrpcServerTest, RequestsReachTheAgentAndResponsesTheCaller) {
  StartServer();
  CreateDeviceResponse made;
  made.set_handle("nvmf-tcp:nqn.a");
  EXPECT_CALL(agent_, CreateDevice)
      .WillOnce([&](const Context&, const CreateDeviceRequest& request) {
        EXPECT_EQ(request.nvmf_tcp().subnqn(), "nqn.a");
        return made;
      });
  CreateDeviceRequest create;
  create.mutable_nvmf_tcp()->set_subnqn("nqn.a");
  CreateDeviceResponse response;
  grpc::ClientContext context;
  ASSERT_TRUE(stub_->CreateDevice(&context, create, &response).ok());
  EXPECT_EQ(response.handle(), "nvmf-tcp:nqn.a");

  GetQosCapabilitiesResponse caps;
  caps.mutable_max_volume_caps()->set_rw_iops(true);
  EXPECT_CALL(agent_, GetQosCapabilities).WillOnce(Return(caps));
  grpc::ClientContext caps_context;
  GetQosCapabilitiesResponse caps_response;
  ASSERT_TRUE(stub_->GetQosCapabilities(&caps_context, {}, &caps_response).ok());
  EXPECT_TRUE(caps_response.max_volume_caps().rw_iops());

  EXPECT_CALL(agent_, AttachVolume).WillOnce(Return(AttachVolumeResponse()));
  EXPECT_CALL(agent_, DetachVolume).WillOnce(Return(DetachVolumeResponse()));
  EXPECT_CALL(agent_, SetQos).WillOnce(Return(SetQosResponse()));
  grpc::ClientContext c1, c2, c3;
  AttachVolumeResponse attached;
  DetachVolumeResponse detached;
  SetQosResponse limited;
  EXPECT_TRUE(stub_->AttachVolume(&c1, {}, &attached).ok());
  EXPECT_TRUE(stub_->DetachVolume(&c2, {}, &detached).ok());
  EXPECT_TRUE(stub_->SetQos(&c3, {}, &limited).ok());
}

TEST_F(GrpcServerTest, ErrorsKeepCodeAndMessage) {
  StartServer();
  EXPECT_CALL(agent_, DeleteDevice)
      .WillOnce(Return(absl::NotFoundError("no device type owns the handle 'x'")));
  grpc::Status status = Delete("x");
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(status.error_message(), "no device type owns the handle 'x'");
}

TEST_F(GrpcServerTest, AnExceptionFailsOnlyItsOwnCall) {
  StartServer();
  EXPECT_CALL(agent_, DeleteDevice)
      .WillOnce([](auto&, auto&) -> absl::StatusOr<DeleteDeviceResponse> {
        throw std::runtime_error("broken");
      })
      .WillOnce(Return(DeleteDeviceResponse()));
  EXPECT_EQ(Delete("x").error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_TRUE(Delete("x").ok());
}

TEST_F(GrpcServerTest, TheCallersDeadlineEndsTheContext) {
  StartServer();
  absl::Status seen;
  EXPECT_CALL(agent_, DeleteDevice).WillOnce([&](const Context& context, auto&) {
    seen = context.SleepUntil(base::TimePoint::max());
    return absl::StatusOr<DeleteDeviceResponse>(seen);
  });
  grpc::ClientContext context;
  context.set_deadline(system_clock::now() + milliseconds(300));
  EXPECT_EQ(Delete(context, "x").error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  server_->Stop(kPatience);  // the server's side of the call may end later
  EXPECT_FALSE(seen.ok());
}

TEST_F(GrpcServerTest, ACallWithoutDeadlineHasNone) {
  StartServer();
  EXPECT_CALL(agent_, DeleteDevice).WillOnce([](const Context& context, auto&) {
    EXPECT_EQ(context.deadline(), base::TimePoint::max());
    return DeleteDeviceResponse();
  });
  grpc::ClientContext context;
  EXPECT_TRUE(Delete(context, "x").ok());
}

TEST_F(GrpcServerTest, ACallersCancelEndsTheContext) {
  StartServer();
  std::latch began(1);
  absl::Status seen;
  EXPECT_CALL(agent_, DeleteDevice).WillOnce([&](const Context& context, auto&) {
    began.count_down();
    seen = context.SleepUntil(base::TimePoint::max());
    return absl::StatusOr<DeleteDeviceResponse>(seen);
  });
  grpc::ClientContext context;
  std::thread canceller([&] {
    began.wait();
    context.TryCancel();
  });
  EXPECT_EQ(Delete(context, "x").error_code(), grpc::StatusCode::CANCELLED);
  canceller.join();
  server_->Stop(kPatience);
  EXPECT_EQ(seen.code(), absl::StatusCode::kCancelled);
}

TEST_F(GrpcServerTest, CallersAreServedConcurrently) {
  StartServer();
  constexpr int kCallers = 64;
  std::latch all_inside(kCallers);
  EXPECT_CALL(agent_, DeleteDevice).Times(kCallers).WillRepeatedly([&](auto&, auto&) {
    all_inside.arrive_and_wait();
    return DeleteDeviceResponse();
  });
  std::atomic<int> succeeded{0};
  std::vector<std::thread> callers;
  for (int i = 0; i < kCallers; ++i) {
    callers.emplace_back([&] { succeeded += Delete("x").ok() ? 1 : 0; });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(succeeded, kCallers);
}

TEST_F(GrpcServerTest, CallsBeyondMaxCallsWait) {
  GrpcServerOptions options;
  options.max_calls = 2;
  StartServer(options);
  std::atomic<int> inside{0}, most{0};
  EXPECT_CALL(agent_, DeleteDevice).Times(20).WillRepeatedly([&](auto&, auto&) {
    int now = ++inside;
    for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
    }
    std::this_thread::yield();
    --inside;
    return DeleteDeviceResponse();
  });
  std::atomic<int> succeeded{0};
  std::vector<std::thread> callers;
  for (int i = 0; i < 20; ++i) callers.emplace_back([&] { succeeded += Delete("x").ok() ? 1 : 0; });
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(succeeded, 20);
  EXPECT_LE(most, 2);
}

TEST_F(GrpcServerTest, CallsForPluginsDoNotBlockOtherCalls) {
  GrpcServerOptions options;
  options.max_calls = 2;
  StartServer(options);
  std::latch go(1);
  std::counting_semaphore<> began(0);
  ON_CALL(agent_, IsPlugins(testing::A<std::string_view>()))
      .WillByDefault([](std::string_view handle) { return handle == "slow"; });
  EXPECT_CALL(agent_, DeleteDevice).WillRepeatedly([&](auto&, const auto& request) {
    if (request.handle() == "slow") {
      began.release();
      go.wait();
    }
    return DeleteDeviceResponse();
  });
  std::atomic<int> succeeded{0};
  std::vector<std::thread> callers;
  for (int i = 0; i < 6; ++i) {
    callers.emplace_back([&] { succeeded += Delete("slow").ok() ? 1 : 0; });
  }
  for (uint32_t i = 0; i < options.max_calls; ++i) began.acquire();
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(Delete("quick").ok());
  EXPECT_EQ(succeeded, 0);
  go.count_down();
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(succeeded, 6);
}

TEST_F(GrpcServerTest, ACallThatWaitedPastItsDeadlineIsNotStarted) {
  GrpcServerOptions options;
  options.max_calls = 1;
  StartServer(options);
  std::latch began(1), go(1);
  EXPECT_CALL(agent_, DeleteDevice).Times(1).WillOnce([&](auto&, auto&) {
    began.count_down();
    go.wait();
    return DeleteDeviceResponse();
  });
  std::thread first([&] { EXPECT_TRUE(Delete("first").ok()); });
  began.wait();
  grpc::ClientContext context;
  auto deadline = system_clock::now() + milliseconds(100);
  context.set_deadline(deadline);
  EXPECT_EQ(Delete(context, "second").error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  // Make sure that the deadline has passed in the server as well.
  std::this_thread::sleep_until(deadline + milliseconds(100));
  go.count_down();
  first.join();
  server_->Stop(kPatience);
}

TEST_F(GrpcServerTest, ATooLargeRequestIsRefused) {
  StartServer();
  EXPECT_CALL(agent_, DeleteDevice).Times(0);
  EXPECT_EQ(Delete(std::string(2 << 20, 'x')).error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
}

TEST_F(GrpcServerTest, TheObserverSeesEachCall) {
  std::atomic<int> ok{0}, failed{0};
  GrpcServerOptions options;
  options.observer = [&](std::string_view method, absl::StatusCode code,
                         std::chrono::nanoseconds t) {
    EXPECT_EQ(method, "DeleteDevice");
    EXPECT_GT(t.count(), 0);
    ++(code == absl::StatusCode::kOk ? ok : failed);
  };
  StartServer(options);
  EXPECT_CALL(agent_, DeleteDevice)
      .WillOnce(Return(DeleteDeviceResponse()))
      .WillOnce(Return(absl::NotFoundError("")));
  Delete("x");
  Delete("x");
  EXPECT_EQ(ok, 1);
  EXPECT_EQ(failed, 1);
}

TEST_F(GrpcServerTest, SecretsDoNotReachTheLog) {
  std::ostringstream log;
  auto before = spdlog::default_logger();
  auto logger = std::make_shared<spdlog::logger>(
      "test", std::make_shared<spdlog::sinks::ostream_sink_mt>(log));
  logger->set_level(spdlog::level::trace);
  spdlog::set_default_logger(logger);
  StartServer();
  EXPECT_CALL(agent_, AttachVolume).WillOnce(Return(absl::InvalidArgumentError("why")));
  AttachVolumeRequest request;
  request.set_device_handle("nvmf-tcp:nqn.a");
  request.mutable_volume()->mutable_crypto()->set_key("0123456789abcdef");
  request.mutable_volume()->mutable_iscsi()->mutable_chap()->set_secret("swordfish");
  grpc::ClientContext context;
  AttachVolumeResponse response;
  stub_->AttachVolume(&context, request, &response);
  server_->Stop(kPatience);
  spdlog::set_default_logger(before);
  EXPECT_THAT(log.str(), HasSubstr("AttachVolume nvmf-tcp:nqn.a"));
  EXPECT_THAT(log.str(), HasSubstr("INVALID_ARGUMENT"));
  EXPECT_THAT(log.str(), HasSubstr("redacted"));
  EXPECT_THAT(log.str(), testing::Not(HasSubstr("0123456789abcdef")));
  EXPECT_THAT(log.str(), testing::Not(HasSubstr("swordfish")));
}

/// Sends one request to the reflection service, encoded by hand, because gRPC does not install the
/// headers of its messages.
std::string QueryReflection(const std::shared_ptr<grpc::Channel>& channel,
                            const std::string& request) {
  grpc::GenericStub stub(channel);
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  auto finish = [&queue] {
    void* tag = nullptr;
    bool ok = false;
    return queue.Next(&tag, &ok) && ok;
  };
  auto stream = stub.PrepareCall(
      &context, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", &queue);
  stream->StartCall(nullptr);
  EXPECT_TRUE(finish());
  grpc::Slice slice(request);
  stream->WriteLast(grpc::ByteBuffer(&slice, 1), {}, nullptr);
  EXPECT_TRUE(finish());
  grpc::ByteBuffer response;
  stream->Read(&response, nullptr);
  EXPECT_TRUE(finish());
  grpc::Status status;
  stream->Finish(&status, nullptr);
  EXPECT_TRUE(finish());
  EXPECT_TRUE(status.ok()) << status.error_message();
  queue.Shutdown();
  std::vector<grpc::Slice> slices;
  response.Dump(&slices);
  std::string bytes;
  for (const grpc::Slice& part : slices) bytes.append(part.begin(), part.end());
  return bytes;
}

TEST_F(GrpcServerTest, ReflectionNamesTheServices) {
  StartServer();
  // ServerReflectionRequest: list_services = 7, file_containing_symbol = 4.
  std::string names = QueryReflection(channel_, std::string("\x3a\x00", 2));
  EXPECT_THAT(names, HasSubstr("sma.StorageManagementAgent"));
  EXPECT_THAT(names, HasSubstr("sma.admin.v1.Admin"));
  EXPECT_THAT(names, HasSubstr("grpc.health.v1.Health"));
  std::string file = QueryReflection(channel_, "\x22\x17sma.CreateDeviceRequest");
  EXPECT_THAT(file, HasSubstr("CreateDeviceResponse")) << "the descriptor of the file";
}

}  // namespace
}  // namespace sma::service
