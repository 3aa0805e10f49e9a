// SPDX-License-Identifier: Apache-2.0

#include <fmt/format.h>
#include <google/protobuf/wrappers.pb.h>

#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "sma_admin.pb.h"

namespace sma::cli {
namespace {

// HealthCheckResponse.ServingStatus of the gRPC health checking protocol, package grpc.health.v1.
constexpr const char* kStatusNames[] = {"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"};
constexpr int kServing = 1;

// Returns why the agent does not serve calls: its status says so, but the health service does not.
std::string WhyNot(Session& session) {
  admin::v1::Status status;
  absl::Status called = session.CallAdmin("GetStatus", admin::v1::GetStatusRequest(), &status);
  if (!called.ok() || status.not_serving_reason().empty()) return {};
  return ": " + status.not_serving_reason();
}

absl::Status CheckHealth(Session& session, const std::string& service) {
  // HealthCheckRequest {string service = 1} and HealthCheckResponse {enum status = 1} have the same
  // wire format as these well-known types, so no copy of health.proto is needed.
  google::protobuf::StringValue request;
  request.set_value(service);
  google::protobuf::Int32Value response;
  absl::Status called = session.Call("/grpc.health.v1.Health/Check", request, &response);
  if (!called.ok()) return called;
  const int value = response.value();
  const char* name = value >= 0 && value < static_cast<int>(std::size(kStatusNames))
                         ? kStatusNames[value]
                         : kStatusNames[0];
  if (session.options.json) {
    session.streams.out << nlohmann::json{{"status", name}}.dump() << '\n';
  } else {
    session.streams.out << name << '\n';
  }
  if (value == kServing) return absl::OkStatus();
  return absl::UnavailableError(
      fmt::format("the agent at {} is not serving{}", session.options.address, WhyNot(session)));
}

}  // namespace

void AddHealthCommand(CLI::App& app, Session& session) {
  CLI::App* command = app.add_subcommand(
      "health", "Check whether the agent is serving; the exit status is 0 if it is");
  auto service = std::make_shared<std::string>();
  command->add_option("service", *service, "Name of a gRPC service; default: the agent as a whole")
      ->type_name("SERVICE");
  SetAction(*command, session, service, &CheckHealth);
  command->footer(R"(Examples:
  smactl health
  smactl --timeout 2s health sma.StorageManagementAgent)");
}

}  // namespace sma::cli
