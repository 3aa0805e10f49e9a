// SPDX-License-Identifier: Apache-2.0

#include "agent/service/health_service.h"

#include <memory>

namespace sma::service {
namespace {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

// The stream of a watcher that does not read is ended, because old statuses are of no use to it.
constexpr size_t kMaxQueued = 64;

std::shared_ptr<const HealthCheckResponse> MakeResponse(HealthCheckResponse::ServingStatus status) {
  auto response = std::make_shared<HealthCheckResponse>();
  response->set_status(status);
  return response;
}

}  // namespace

class HealthService::Watcher : public EventStream<HealthCheckResponse> {
 public:
  explicit Watcher(HealthService& service)
      : EventStream(kMaxQueued, service.budget_), service_(service) {}
  ~Watcher() override {
    base::MutexLock lock(service_.mutex_);
    service_.watchers_.erase(this);
  }

 private:
  HealthService& service_;
};

void HealthService::SetServing(bool serving) {
  base::MutexLock lock(mutex_);
  auto status = serving ? HealthCheckResponse::SERVING : HealthCheckResponse::NOT_SERVING;
  if (!stopped_ && status != status_) Notify(status);
}

void HealthService::Stop() {
  base::MutexLock lock(mutex_);
  stopped_ = true;
  if (status_ != HealthCheckResponse::NOT_SERVING) Notify(HealthCheckResponse::NOT_SERVING);
  for (Watcher* watcher : watchers_) {
    watcher->EndAfterQueued(grpc::Status(grpc::StatusCode::UNAVAILABLE, "the agent is stopping"));
  }
}

void HealthService::Notify(HealthCheckResponse::ServingStatus status) {
  status_ = status;
  auto response = MakeResponse(status);
  for (Watcher* watcher : watchers_) watcher->Send(response);
}

grpc::ServerUnaryReactor* HealthService::Check(grpc::CallbackServerContext* context,
                                               const HealthCheckRequest* request,
                                               HealthCheckResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  if (!Knows(request->service())) {
    reactor->Finish(grpc::Status(grpc::StatusCode::NOT_FOUND, "unknown service"));
    return reactor;
  }
  {
    base::MutexLock lock(mutex_);
    response->set_status(status_);
  }
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerWriteReactor<HealthCheckResponse>* HealthService::Watch(
    grpc::CallbackServerContext*, const HealthCheckRequest* request) {
  auto* watcher = new Watcher(*this);
  {
    base::MutexLock lock(mutex_);
    if (stopped_) {
      watcher->End(grpc::Status(grpc::StatusCode::UNAVAILABLE, "the agent is stopping"));
    } else {
      bool known = Knows(request->service());
      watcher->Send(MakeResponse(known ? status_ : HealthCheckResponse::SERVICE_UNKNOWN));
      watchers_.insert(watcher);
    }
  }
  watcher->Open();
  return watcher;
}

}  // namespace sma::service
