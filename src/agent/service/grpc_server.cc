// SPDX-License-Identifier: Apache-2.0

#include "agent/service/grpc_server.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <grpc/support/log.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <mutex>
#include <utility>

#include "agent/service/acceptor.h"
#include "agent/service/admin_service.h"
#include "agent/service/free_memory.h"
#include "agent/service/health_service.h"
#include "agent/service/in_flight.h"
#include "agent/service/listen.h"
#include "agent/service/sma_service.h"
#include "agent/service/tls.h"
#include "agent/service/worker_pool.h"
#include "base/descriptor_limit.h"
#include "base/log_limit.h"
#include "base/unique_fd.h"

namespace sma::service {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;
using std::chrono::system_clock;

constexpr int kMaxRequestBytes = 1024 * 1024;
constexpr int kMaxStreamsPerConnection = 1024;
// A client may send pings at this interval, with or without calls in progress, without being
// disconnected.
constexpr int kMinPingIntervalMs = 1000;
// The server's own pings detect peers that vanished and left streams behind.
constexpr int kPingIntervalMs = 60'000;
constexpr int kPingTimeoutMs = 20'000;
constexpr int kHandshakeTimeoutMs = 10'000;
constexpr milliseconds kReturnMemoryPeriod = seconds(5);
// Workers for calls that do not wait for the target. A few are enough, and they remain available
// while all others wait for the target.
constexpr uint32_t kAdminWorkers = 8;
constexpr milliseconds kTransportStopTime = seconds(2);

// Most of these lines are caused by clients, for example one by each rejected compressed request.
void LogFromGrpc(gpr_log_func_args* args) {
  static base::LogLimit limit(20, 1);
  if (args->severity == GPR_LOG_SEVERITY_ERROR) {
    limit.Log(spdlog::level::warn, "grpc: {}", args->message);
  } else {
    spdlog::debug("grpc: {}", args->message);
  }
}

void SetUpGrpcOnce() {
  static std::once_flag once;
  std::call_once(once, [] {
    gpr_set_log_function(&LogFromGrpc);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  });
}

void SetArguments(grpc::ServerBuilder& builder) {
  builder.SetMaxReceiveMessageSize(kMaxRequestBytes);
  // gRPC 1.51 decompresses a message before it compares its size with the limit, so a message of 1
  // MB may become 1 GB. Compressed requests are therefore answered with UNIMPLEMENTED (gRPC's
  // compression.md).
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_DEFLATE, false);
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_GZIP, false);
  builder.AddChannelArgument(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0);
  // Applies to the time from accept to the first HTTP/2 settings, including the TLS handshake.
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakeTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxStreamsPerConnection);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             kMinPingIntervalMs);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PING_STRIKES, 0);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kPingIntervalMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kPingTimeoutMs);
}

WorkerPool::Options PoolOptions(uint32_t max_threads) {
  WorkerPool::Options options;
  options.max_threads = max_threads;
  options.max_of_lane = std::max(max_threads / 4, 1U);
  options.max_of_kind = std::max(max_threads * 3 / 4, 1U);
  options.max_in_lanes = max_threads - max_threads / 16;
  return options;
}

// There are few plugins, and each limits by itself how many of its calls run.
WorkerPool::Options PluginPoolOptions(uint32_t max_threads) {
  WorkerPool::Options options = PoolOptions(max_threads);
  options.lane_share = 2;
  return options;
}

}  // namespace

class GrpcServer::Impl {
 public:
  Impl(api::Agent& agent, api::Admin& admin, GrpcServerOptions options)
      : options_(std::move(options)),
        call_workers_(PoolOptions(options_.max_calls)),
        plugin_workers_(PluginPoolOptions(options_.max_calls)),
        admin_workers_(PoolOptions(kAdminWorkers)),
        sma_service_(agent, {call_workers_, calls_, options_.observer},
                     {plugin_workers_, calls_, options_.observer},
                     {admin_workers_, calls_, options_.observer}),
        admin_service_(admin, {admin_workers_, calls_, options_.observer},
                       {call_workers_, calls_, options_.observer}, watches_),
        health_service_(StorageManagementAgent::service_full_name()) {}

  absl::Status Start();
  void Stop(milliseconds timeout);

  const std::vector<std::string>& addresses() const { return addresses_; }
  uint16_t port() const { return port_; }
  HealthService& health_service() { return health_service_; }

 private:
  void HandOver(int listener, base::UniqueFd fd);

  const GrpcServerOptions options_;
  InFlight calls_;
  InFlight watches_;
  WorkerPool call_workers_;
  WorkerPool plugin_workers_;
  WorkerPool admin_workers_;
  SmaService sma_service_;
  AdminService admin_service_;
  HealthService health_service_;
  std::vector<std::string> addresses_;
  uint16_t port_ = 0;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> connections_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<Acceptor> acceptor_;  // destroyed first
  std::string unix_path_;
};

absl::Status GrpcServer::Impl::Start() {
  SetUpGrpcOnce();
  absl::StatusOr<ListenAddresses> listen = ReserveListenAddresses(options_.address, options_.port);
  if (!listen.ok()) return listen.status();
  std::shared_ptr<grpc::ServerCredentials> credentials = grpc::InsecureServerCredentials();
  if (options_.tls) {
    auto tls = MakeTlsCredentials(*options_.tls);
    if (!tls.ok()) return tls.status();
    credentials = *std::move(tls);
  } else if (!listen->is_local) {
    spdlog::warn("no TLS: requests, including volume keys, are not encrypted on {}",
                 fmt::join(listen->addresses, ", "));
  }

  grpc::ServerBuilder builder;
  SetArguments(builder);
  connections_ = builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD, credentials);
  builder.RegisterService(&sma_service_);
  builder.RegisterService(&admin_service_);
  builder.RegisterService(&health_service_);
  if (absl::Status status = BeginToListen(*listen); !status.ok()) return status;
  server_ = builder.BuildAndStart();
  if (!server_) return absl::InternalError("gRPC failed to start the server");
  const uint32_t limit = base::DescriptorLimit();
  acceptor_ = std::make_unique<Acceptor>(
      std::move(listen->reserved), limit - base::DescriptorReserve(limit),
      [this](int listener, base::UniqueFd fd) { HandOver(listener, std::move(fd)); },
      kReturnMemoryPeriod, [memory = FreeMemory()]() mutable { memory.ReturnToSystem(); });
  unix_path_ = std::move(listen->unix_path);
  addresses_ = std::move(listen->addresses);
  port_ = listen->port;
  spdlog::info("listening on {}{}", fmt::join(addresses_, ", "), options_.tls ? " with TLS" : "");
  return absl::OkStatus();
}

void GrpcServer::Impl::HandOver(int listener, base::UniqueFd fd) {
  grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters connection;
  connection.listener_fd = listener;
  connection.fd = fd.Release();
  connections_->HandleNewConnection(&connection);
}

void GrpcServer::Impl::Stop(milliseconds timeout) {
  if (!server_) return;
  calls_.Close();
  watches_.Close();
  health_service_.Stop();
  watches_.CancelAll();
  if (!calls_.WaitUntilNone(steady_clock::now() + timeout)) {
    spdlog::warn("cancelled {} calls that were still running {} ms after the stop began",
                 calls_.count(), timeout.count());
    calls_.CancelAll();
    calls_.WaitUntilNone(base::TimePoint::max());
  }
  acceptor_.reset();
  if (!unix_path_.empty()) ::unlink(unix_path_.c_str());
  server_->Shutdown(system_clock::now() + kTransportStopTime);
  server_.reset();
}

GrpcServer::GrpcServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

GrpcServer::~GrpcServer() { Stop(milliseconds(0)); }

absl::StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::Start(api::Agent& agent, api::Admin& admin,
                                                              GrpcServerOptions options) {
  auto impl = std::make_unique<Impl>(agent, admin, std::move(options));
  if (absl::Status status = impl->Start(); !status.ok()) return status;
  return std::unique_ptr<GrpcServer>(new GrpcServer(std::move(impl)));
}

const std::vector<std::string>& GrpcServer::addresses() const { return impl_->addresses(); }

uint16_t GrpcServer::port() const { return impl_->port(); }

void GrpcServer::SetServing(bool serving) { impl_->health_service().SetServing(serving); }

void GrpcServer::Stop(milliseconds timeout) { impl_->Stop(timeout); }

}  // namespace sma::service
