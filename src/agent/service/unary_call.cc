// SPDX-License-Identifier: Apache-2.0

#include "agent/service/unary_call.h"

#include <spdlog/spdlog.h>

#include <exception>

#include "agent/service/grpc_status.h"
#include "base/log_limit.h"

namespace sma::service {
namespace {

using std::chrono::steady_clock;

// A call with a longer timeout is treated as having no deadline.
constexpr std::chrono::seconds kLongestTimeout = std::chrono::hours(24 * 365);

// Limits on the log lines about calls.
constexpr uint32_t kLogBurst = 1000;
constexpr uint32_t kLogPerSecond = 50;

/// Handlers should not throw; if one does, only its own call fails.
absl::Status RunGuarded(const UnaryCall::Work& work, const base::Context& context) {
  try {
    return work(context);
  } catch (const std::exception& error) {
    return absl::InternalError(error.what());
  }
}

void Log(const char* method, const std::string& object, Access access, const absl::Status& status,
         double elapsed_ms) {
  // The lines are limited because a client may repeat rejected calls, and calls that change
  // nothing, indefinitely.
  static base::LogLimit failed(kLogBurst, kLogPerSecond);
  static base::LogLimit done(kLogBurst, kLogPerSecond);
  if (!status.ok()) {
    failed.Log(spdlog::level::info, "{} {}: {} in {:.1f} ms: {}", method, object,
               absl::StatusCodeToString(status.code()), elapsed_ms, std::string(status.message()));
  } else if (access == Access::kChanges) {
    done.Log(spdlog::level::info, "{} {}: OK in {:.1f} ms", method, object, elapsed_ms);
  } else {
    spdlog::debug("{} {}: OK in {:.1f} ms", method, object, elapsed_ms);
  }
}

}  // namespace

base::Context ContextOf(const grpc::CallbackServerContext& server_context) {
  // deadline() could overflow: a timeout has up to eight digits of hours (gRPC over HTTP/2,
  // "Timeout"), while a time point has 64 bits of nanoseconds, which is 292 years.
  const gpr_timespec deadline =
      gpr_convert_clock_type(server_context.raw_deadline(), GPR_CLOCK_REALTIME);
  const gpr_timespec left = gpr_time_sub(deadline, gpr_now(GPR_CLOCK_REALTIME));
  if (left.tv_sec > kLongestTimeout.count()) return base::Context::Background();
  if (left.tv_sec < 0) return base::Context::WithTimeout(std::chrono::nanoseconds(0));
  return base::Context::WithTimeout(std::chrono::seconds(left.tv_sec) +
                                    std::chrono::nanoseconds(left.tv_nsec));
}

void LogRequest(const char* method, const google::protobuf::Message& request) {
  if (spdlog::should_log(spdlog::level::debug)) spdlog::debug("{} {}", method, Redacted(request));
}

UnaryCall::UnaryCall(const CallEnvironment& environment,
                     const grpc::CallbackServerContext& server_context, const char* method,
                     Access access, std::string object)
    : environment_(environment),
      method_(method),
      access_(access),
      object_(std::move(object)),
      context_(ContextOf(server_context)),
      ticket_(environment.in_flight.Add(context_)) {}

UnaryCall* UnaryCall::Start(const CallEnvironment& environment,
                            const grpc::CallbackServerContext& server_context, const char* method,
                            Access access, std::string object, Work work, api::Neighbour lane) {
  auto* call = new UnaryCall(environment, server_context, method, access, std::move(object));
  if (!call->ticket_) {
    call->End(absl::UnavailableError("the agent is stopping"));
  } else if (!environment.workers.Submit([call, work = std::move(work)] { call->Run(work); },
                                         lane)) {
    call->End(absl::ResourceExhaustedError("too many calls are waiting"));
  }
  return call;
}

void UnaryCall::Run(const Work& work) {
  // The deadline may have passed while the call waited for a worker.
  absl::Status status = context_.status();
  if (status.ok()) status = RunGuarded(work, context_);
  End(status);
}

void UnaryCall::End(const absl::Status& status) {
  std::chrono::nanoseconds latency = steady_clock::now() - arrival_;
  Log(method_, object_, access_, status,
      std::chrono::duration<double, std::milli>(latency).count());
  if (environment_.observer) environment_.observer(method_, status.code(), latency);
  // Must be the last use of this object, since OnDone() may run immediately on another thread.
  Finish(ToGrpcStatus(status));
}

}  // namespace sma::service
