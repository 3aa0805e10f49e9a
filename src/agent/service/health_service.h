#pragma once

#include <grpcpp/server_context.h>

#include <set>
#include <string>

#include "agent/service/event_stream.h"
#include "base/mutex.h"
#include "grpc/health/v1/health.grpc.pb.h"

namespace sma::service {

/// The standard health service. Unlike the one that gRPC brings, it begins with NOT_SERVING and can
/// end its watchers, so that they do not hold up a stop. All members are thread-safe.
class HealthService : public grpc::health::v1::Health::CallbackService {
 public:
  /// `service`: full name of the one service that may be asked for, besides the server as a whole.
  explicit HealthService(std::string service) : service_(std::move(service)) {}

  void SetServing(bool serving) SMA_EXCLUDES(mutex_);

  /// NOT_SERVING for good; watchers are told, and ended.
  void Stop() SMA_EXCLUDES(mutex_);

  grpc::ServerUnaryReactor* Check(grpc::CallbackServerContext* context,
                                  const grpc::health::v1::HealthCheckRequest* request,
                                  grpc::health::v1::HealthCheckResponse* response) override;
  grpc::ServerWriteReactor<grpc::health::v1::HealthCheckResponse>* Watch(
      grpc::CallbackServerContext* context,
      const grpc::health::v1::HealthCheckRequest* request) override;

 private:
  using Response = grpc::health::v1::HealthCheckResponse;
  class Watcher;

  bool Knows(const std::string& service) const { return service.empty() || service == service_; }
  void Tell(Response::ServingStatus status) SMA_REQUIRES(mutex_);

  const std::string service_;
  base::Mutex mutex_;
  bool stopped_ SMA_GUARDED_BY(mutex_) = false;
  Response::ServingStatus status_ SMA_GUARDED_BY(mutex_) = Response::NOT_SERVING;
  std::set<Watcher*> watchers_ SMA_GUARDED_BY(mutex_);  // of known services
};

}  // namespace sma::service
