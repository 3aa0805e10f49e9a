// SPDX-License-Identifier: Apache-2.0

#include "agent/plugin/python/call.h"

#include <fmt/format.h>
#include <pybind11/pybind11.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <utility>

#include "agent/plugin/python/host.h"
#include "base/log_limit.h"

namespace sma::python {

namespace py = pybind11;

namespace {

// A plugin that takes longer is considered hung, even if the caller set no deadline.
constexpr std::chrono::seconds kLongestCall{60};
constexpr int kMaxStatusCode = static_cast<int>(absl::StatusCode::kUnauthenticated);

thread_local Call* current_call = nullptr;

absl::StatusOr<std::string> Answer(const py::tuple& answer) {
  int code = answer[0].cast<int>();
  if (code == 0) return answer[2].cast<std::string>();
  if (code < 0 || code > kMaxStatusCode) code = static_cast<int>(absl::StatusCode::kUnknown);
  return absl::Status(static_cast<absl::StatusCode>(code), answer[1].cast<std::string>());
}

void RunInThisThread(Call& call) {
  current_call = &call;
  py::gil_scoped_acquire gil;
  try {
    call.answer = Answer(
        Host::Get().agent_side().attr("call")(call.object, call.method, py::bytes(call.argument)));
  } catch (const std::exception& error) {
    static base::LogLimit limit(20, 1);
    limit.Log(spdlog::level::err, "plugin: {}: {}", call.method, error.what());
    call.answer = absl::InternalError(fmt::format("{} failed", call.method));
  }
  current_call = nullptr;
}

}  // namespace

Call* CurrentCall() { return current_call; }

absl::StatusOr<std::string> PluginObject::Run(const base::Context& context, std::string method,
                                              std::string argument, DeviceSpec device,
                                              std::optional<DeviceVolume> volume) const {
  const base::Context bounded = context.Child(std::chrono::steady_clock::now() + kLongestCall);
  auto call = std::make_shared<Call>(Call{.context = bounded,
                                          .object = number_,
                                          .method = std::move(method),
                                          .argument = std::move(argument),
                                          .device = std::move(device),
                                          .volume = std::move(volume)});
  absl::Status status =
      Host::Get().workers().Run(bounded, given_up_, [call] { RunInThisThread(*call); });
  if (status.ok()) return std::move(call->answer);
  static base::LogLimit limit(20, 1);
  limit.Log(spdlog::level::warn, "plugin {}: {}: {}", name_, call->method,
            std::string(status.message()));
  return status;
}

}  // namespace sma::python
