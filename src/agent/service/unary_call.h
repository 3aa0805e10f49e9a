// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/api/agent_api.h"
#include "agent/service/call_observer.h"
#include "agent/service/in_flight.h"
#include "agent/service/redact.h"
#include "agent/service/worker_pool.h"
#include "base/context.h"

namespace sma::service {

/// The environment in which calls run; must outlive them.
struct CallEnvironment {
  WorkerPool& workers;
  InFlight& in_flight;
  const CallObserver& observer;
};

/// Selects the log level of a method: successful calls that only read are logged at level debug.
enum class Access { kReads, kChanges };

/// One unary call. Its work runs on a worker, with a context that ends at the caller's deadline, or
/// when the caller cancels or disconnects. Owns itself and is destroyed by gRPC's call of OnDone().
class UnaryCall : public grpc::ServerUnaryReactor {
 public:
  using Work = std::function<absl::Status(const base::Context&)>;

  /// `method` must outlive the call. For `lane` see WorkerPool::Submit. gRPC takes ownership of the
  /// returned call.
  static UnaryCall* Start(const CallEnvironment& environment,
                          const grpc::CallbackServerContext& server_context, const char* method,
                          Access access, std::string object, Work work, api::Neighbour lane);

  /// Also called when the client's deadline passes, possibly slightly before it passes here: the
  /// client has then received its answer, so the effects of the call must be rolled back.
  void OnCancel() override { context_.Cancel(); }
  void OnDone() override { delete this; }

 private:
  UnaryCall(const CallEnvironment& environment, const grpc::CallbackServerContext& server_context,
            const char* method, Access access, std::string object);

  void Run(const Work& work);
  void End(const absl::Status& status);

  const CallEnvironment& environment_;
  const char* const method_;
  const Access access_;
  const std::string object_;
  const base::TimePoint arrival_ = std::chrono::steady_clock::now();
  const base::Context context_;
  std::optional<InFlight::Ticket> ticket_;
};

/// Returns a context that ends at gRPC's deadline; without a deadline it never ends.
base::Context ContextOf(const grpc::CallbackServerContext& server_context);

/// Logs the complete request, without secrets, at level debug.
void LogRequest(const char* method, const google::protobuf::Message& request);

/// Starts a call that is answered by `handler`, a function with the signature
/// absl::StatusOr<Response>(const base::Context&, const Request&). gRPC keeps request and response
/// alive until the call has ended.
template <typename Request, typename Response, typename Handler>
grpc::ServerUnaryReactor* StartCall(const CallEnvironment& environment,
                                    const grpc::CallbackServerContext& server_context,
                                    const char* method, Access access, const Request* request,
                                    Response* response, Handler handler, api::Neighbour lane = {}) {
  LogRequest(method, *request);
  auto work = [request, response, handler](const base::Context& context) {
    absl::StatusOr<Response> result = handler(context, *request);
    if (!result.ok()) return result.status();
    *response = *std::move(result);
    return absl::OkStatus();
  };
  return UnaryCall::Start(environment, server_context, method, access, ObjectOf(*request),
                          std::move(work), std::move(lane));
}

}  // namespace sma::service
