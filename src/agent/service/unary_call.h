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
#include "agent/service/call_observer.h"
#include "agent/service/in_flight.h"
#include "agent/service/redact.h"
#include "agent/service/worker_pool.h"
#include "base/context.h"

namespace sma::service {

/// What calls run with; outlives them.
struct CallEnvironment {
  WorkerPool& workers;
  InFlight& in_flight;
  const CallObserver& observer;
};

/// How loud a method is in the log: those that change nothing are told at level debug, if they
/// succeed.
enum class Access { kReads, kChanges };

/// One unary call. Its work runs on a worker, with a context that ends at the caller's deadline and
/// when the caller cancels or goes away. Owns itself: gRPC ends it with OnDone().
class UnaryCall : public grpc::ServerUnaryReactor {
 public:
  using Work = std::function<absl::Status(const base::Context&)>;

  /// `method` must outlive the call. `lane` as for WorkerPool::Submit. gRPC takes the call that is
  /// returned.
  static UnaryCall* Start(const CallEnvironment& environment,
                          const grpc::CallbackServerContext& server_context, const char* method,
                          Access access, std::string object, Work work, std::string lane);

  /// Also when the client's deadline passes, which may be a moment before it does here: the client
  /// has its answer then, so what the call still does must not stay.
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

/// The context of a call that ends with gRPC's deadline, without one never.
base::Context ContextOf(const grpc::CallbackServerContext& server_context);

/// At level debug, the whole request without its secrets.
void LogRequest(const char* method, const google::protobuf::Message& request);

/// Starts a call that is answered by `handler`, an absl::StatusOr<Response>(const base::Context&,
/// const Request&). gRPC keeps request and response for as long as the call lives.
template <typename Request, typename Response, typename Handler>
grpc::ServerUnaryReactor* StartCall(const CallEnvironment& environment,
                                    const grpc::CallbackServerContext& server_context,
                                    const char* method, Access access, const Request* request,
                                    Response* response, Handler handler, std::string lane = {}) {
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
