// SPDX-License-Identifier: Apache-2.0

// The Python module _sma_agent, through which Python code calls the agent.

#include <fmt/format.h>
#include <pybind11/embed.h>
#include <pybind11/stl.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <optional>
#include <utility>

#include "agent/plugin/python/built_in.h"
#include "agent/plugin/python/host.h"
#include "jsonrpc/error.h"

namespace sma::python {
namespace {

namespace py = pybind11;
using jsonrpc::Json;

// The time limit for calls from threads that a plugin started.
constexpr std::chrono::seconds kDefaultTime{60};

std::string ToText(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

absl::StatusOr<Json> CallTargetNow(const std::string& method, const std::string& params) {
  std::optional<Json> parsed = Json();
  if (!params.empty()) parsed = jsonrpc::Parse(params);
  if (!parsed) return absl::InvalidArgumentError("the parameters are invalid JSON");
  Call* call = CurrentCall();
  auto result = Host::Get().target().Call(
      call == nullptr ? base::Context::WithTimeout(kDefaultTime) : call->context, method,
      *std::move(parsed));
  bool lost = absl::IsUnavailable(result.status()) && !jsonrpc::GetTargetError(result.status());
  if (call != nullptr && lost) call->target_lost = true;
  return result;
}

// Returns true and the result, or false and an error object, both as JSON; an error that lacks
// `code` did not come from the target.
std::pair<bool, std::string> CallTarget(const std::string& method, const std::string& params) {
  py::gil_scoped_release release;
  absl::StatusOr<Json> result = CallTargetNow(method, params);
  if (result.ok()) return {true, ToText(*result)};
  if (auto error = jsonrpc::GetTargetError(result.status())) {
    return {false, ToText({{"code", error->code}, {"message", error->message}})};
  }
  return {false, ToText({{"message", std::string(result.status().message())}})};
}

void Log(int level, const std::string& text) {
  constexpr int kPerStep = 10;  // of Python's module logging
  py::gil_scoped_release release;
  auto debug = static_cast<int>(spdlog::level::debug);
  auto critical = static_cast<int>(spdlog::level::critical);
  auto ours = static_cast<spdlog::level::level_enum>(
      std::clamp(debug + level / kPerStep - 1, debug, critical));
  spdlog::log(ours, "{}", text);
}

// Returns the bdev that encrypts a volume, if the current call is about that volume.
std::optional<std::string> CryptoBdev(const std::string& volume_id) {
  const Call* call = CurrentCall();
  if (call == nullptr || !call->volume) return std::nullopt;
  const DeviceVolume& volume = *call->volume;
  bool encrypted = volume.id.ToString() == volume_id && volume.bdev_name != volume_id;
  return encrypted ? std::optional<std::string>(volume.bdev_name) : std::nullopt;
}

std::unique_ptr<BuiltIn> MakeBuiltIn(const std::string& type, const std::string& params) {
  const DeviceFactory* found = Host::Get().catalog().FindDeviceType(type);
  std::optional<Json> parsed = jsonrpc::Parse(params);
  if (found == nullptr || !parsed) {
    throw py::value_error(fmt::format("this agent has no device type {}", type));
  }
  auto manager = found->make(*parsed);
  if (!manager.ok()) throw py::value_error(std::string(manager.status().message()));
  return std::make_unique<BuiltIn>(*std::move(manager));
}

py::tuple RunBuiltIn(BuiltIn& built_in, const std::string& method, const std::string& request) {
  absl::StatusOr<std::string> answer;
  {
    py::gil_scoped_release release;
    answer = built_in.Run(method, request);
  }
  if (answer.ok()) return py::make_tuple(0, "", py::bytes(*answer));
  return py::make_tuple(static_cast<int>(answer.status().code()),
                        std::string(answer.status().message()), py::bytes());
}

PYBIND11_EMBEDDED_MODULE(_sma_agent, module) {
  module.def("call_target", &CallTarget);
  module.def("target_was_lost",
             [] { return CurrentCall() != nullptr && CurrentCall()->target_lost; });
  module.def("log", &Log);
  module.def("crypto_bdev", &CryptoBdev);
  py::class_<BuiltIn>(module, "BuiltIn").def(py::init(&MakeBuiltIn)).def("call", &RunBuiltIn);
}

}  // namespace
}  // namespace sma::python
