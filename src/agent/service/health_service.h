// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <grpcpp/server_context.h>

#include <set>
#include <string>

#include "agent/service/event_stream.h"
#include "base/mutex.h"
#include "grpc/health/v1/health.grpc.pb.h"

namespace sma::service {

/// The standard health service. Unlike gRPC's own implementation, it starts with NOT_SERVING and
/// can end its watchers, so that they do not delay a stop. Thread-safe.
class HealthService : public grpc::health::v1::Health::CallbackService {
 public:
  /// `service` is the full name of the only service that clients may query besides the server as a
  /// whole.
  explicit HealthService(std::string service) : service_(std::move(service)) {}

  void SetServing(bool serving) SMA_EXCLUDES(mutex_);

  /// Sets NOT_SERVING permanently, notifies the watchers and ends their streams.
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
  void Notify(Response::ServingStatus status) SMA_REQUIRES(mutex_);

  // The limit for all watchers together, which can be high because statuses are small.
  static constexpr size_t kMaxQueuedTogether = 65'536;

  const std::string service_;
  QueueBudget budget_{kMaxQueuedTogether};
  base::Mutex mutex_;
  bool stopped_ SMA_GUARDED_BY(mutex_) = false;
  Response::ServingStatus status_ SMA_GUARDED_BY(mutex_) = Response::NOT_SERVING;
  std::set<Watcher*> watchers_ SMA_GUARDED_BY(mutex_);  // watchers of known services
};

}  // namespace sma::service
