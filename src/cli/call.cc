// SPDX-License-Identifier: Apache-2.0

#include <fmt/format.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <google/protobuf/util/json_util.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "cli/commands.h"
#include "sma.pb.h"
#include "sma_admin.pb.h"

namespace sma::cli {
namespace {

using google::protobuf::Message;
using google::protobuf::MethodDescriptor;
using nlohmann::json;

const MethodDescriptor* FindMethod(const std::string& name) {
  const google::protobuf::FileDescriptor* files[] = {sma::CreateDeviceRequest::descriptor()->file(),
                                                     sma::admin::v1::Device::descriptor()->file()};
  for (const auto* file : files) {
    if (const MethodDescriptor* method = file->service(0)->FindMethodByName(name)) return method;
  }
  return nullptr;
}

std::unique_ptr<Message> NewMessage(const google::protobuf::Descriptor* type) {
  return std::unique_ptr<Message>(
      google::protobuf::MessageFactory::generated_factory()->GetPrototype(type)->New());
}

struct Input {
  std::string method;
  std::string params = "{}";  // JSON
};

absl::StatusOr<Input> ReadInput(const std::string& method, std::istream& in) {
  const json object = json::parse(in, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) {
    return absl::InvalidArgumentError("standard input is not a single JSON object");
  }
  Input input{method};
  // With the method on the command line, the fields of the request may be given alone.
  if (!method.empty() && !object.contains("params") && !object.contains("method")) {
    input.params = object.dump();
    return input;
  }
  for (const auto& [key, value] : object.items()) {
    if (key == "params" && (value.is_object() || value.is_null())) {
      if (value.is_object()) input.params = value.dump();
    } else if (key == "method" && value.is_string()) {
      if (!method.empty() && value != method) {
        return absl::InvalidArgumentError(
            fmt::format("standard input names method {}, but the command line names {}",
                        value.get<std::string>(), method));
      }
      input.method = value.get<std::string>();
    } else {
      return absl::InvalidArgumentError(
          fmt::format("'{}': standard input must be {{\"method\": NAME, \"params\": {{...}}}}, or "
                      "with METHOD on the "
                      "command line the fields of the request",
                      key));
    }
  }
  if (input.method.empty()) return absl::InvalidArgumentError("no method was given");
  return input;
}

absl::Status CallMethod(Session& session, const std::string& method_name) {
  absl::StatusOr<Input> input = ReadInput(method_name, session.streams.in);
  if (!input.ok()) return input.status();
  const MethodDescriptor* method = FindMethod(input->method);
  if (method == nullptr || method->server_streaming()) {
    return absl::InvalidArgumentError(fmt::format("there is no method {}", input->method));
  }
  std::unique_ptr<Message> request = NewMessage(method->input_type());
  auto parsed = google::protobuf::util::JsonStringToMessage(input->params, request.get());
  if (!parsed.ok()) {
    return absl::InvalidArgumentError(
        fmt::format("params of {}: {}", input->method, std::string(parsed.message())));
  }
  std::unique_ptr<Message> response = NewMessage(method->output_type());
  const std::string path = fmt::format("/{}/{}", method->service()->full_name(), method->name());
  absl::Status status = session.Call(path, *request, response.get());
  return status.ok() ? session.PrintJson(*response) : status;
}

}  // namespace

void AddCallCommand(CLI::App& app, Session& session) {
  CLI::App* command = app.add_subcommand(
      "call",
      "Call a method with a JSON request from standard input, and print the response as JSON");
  auto method = std::make_shared<std::string>();
  command->add_option("method", *method, "Name of the method, unless the JSON has it")
      ->type_name("METHOD");
  SetAction(*command, session, method, &CallMethod);
  command->footer(
      R"(Standard input is one JSON object: the fields of the request, or {"method": NAME, "params": {...}}.
Fields are named as in the .proto files, bytes are in base64.

Examples:
  smactl call CreateDevice <<'END'
  {"nvmf_tcp": {"subnqn": "nqn.2024-01.com.example:disk1", "adrfam": "ipv4",
                "traddr": "192.0.2.1", "trsvcid": "4420", "allow_any_host": true}}
  END
  echo '{"method": "DeleteDevice", "params": {"handle": "nvmf-tcp:nqn.2024-01.com.example:disk1"}}' | smactl call
  echo '{}' | smactl call GetStatus)");
}

}  // namespace sma::cli
