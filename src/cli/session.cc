// SPDX-License-Identifier: Apache-2.0

#include "cli/session.h"

#include <fmt/format.h>
#include <google/protobuf/util/json_util.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/impl/codegen/proto_utils.h>
#include <grpcpp/security/credentials.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <future>
#include <iterator>
#include <utility>

#include "cli/tls_reason.h"
#include "cli/units.h"

namespace sma::cli {
namespace {

using google::protobuf::Message;

bool UsesTls(const GlobalOptions& options) {
  return options.tls || !options.ca_file.empty() || !options.cert_file.empty();
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeCredentials(
    const GlobalOptions& options, std::istream& standard_input) {
  if (!UsesTls(options)) {
    return grpc::InsecureChannelCredentials();
  }
  grpc::SslCredentialsOptions ssl;
  for (auto [path, text] : {std::pair(&options.ca_file, &ssl.pem_root_certs),
                            std::pair(&options.cert_file, &ssl.pem_cert_chain),
                            std::pair(&options.key_file, &ssl.pem_private_key)}) {
    if (path->empty()) continue;
    absl::StatusOr<std::string> content = ReadFile(*path, standard_input);
    if (!content.ok()) return content.status();
    *text = *std::move(content);
  }
  return grpc::SslCredentials(ssl);
}

// Returns why a connection to the agent fails because of TLS; empty if that is not the reason.
std::string WhyNoTls(const GlobalOptions& options) {
  const auto server = AgentHostAndPort(options.address);
  if (!server) return {};
  return WhyTlsFails({.host = server->first,
                      .port = server->second,
                      .uses_tls = UsesTls(options),
                      .ca_file = options.ca_file == "-" ? "" : options.ca_file,
                      .cert_file = options.cert_file,
                      .key_file = options.key_file});
}

}  // namespace

absl::StatusOr<std::string> ReadFile(const std::string& path, std::istream& standard_input) {
  std::ifstream file;
  if (path != "-") {
    file.open(path, std::ios::binary);
    if (!file) {
      return absl::InvalidArgumentError(
          fmt::format("cannot read {}: {}", path, std::strerror(errno)));
    }
  }
  std::istream& in = path == "-" ? standard_input : file;
  std::string content{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  if (in.bad()) return absl::InvalidArgumentError(fmt::format("cannot read {}", path));
  return content;
}

absl::Status Session::Connect() {
  absl::StatusOr<std::string> target = ParseAgentAddress(options.address);
  if (!target.ok()) return target.status();
  absl::StatusOr<std::chrono::milliseconds> timeout = ParseDuration(options.timeout);
  if (!timeout.ok()) return timeout.status();
  deadline_ = std::chrono::system_clock::now() + *timeout;
  auto credentials = MakeCredentials(options, streams.in);
  if (!credentials.ok()) return credentials.status();
  grpc::ChannelArguments arguments;
  // Connects to the agent directly, because a proxy in the environment is meant for the web.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  channel_ = grpc::CreateCustomChannel(*target, *credentials, arguments);
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<grpc::Channel>> Session::Channel() {
  if (!channel_) {
    if (absl::Status status = Connect(); !status.ok()) return status;
  }
  return channel_;
}

absl::Status Session::CallAndPrint(const std::string& method, const Message& request,
                                   Message* response, const std::string& line) {
  absl::Status status = Call("/sma.StorageManagementAgent/" + method, request, response);
  if (!status.ok()) return status;
  if (options.json) return PrintJson(*response);
  streams.out << line << '\n';
  return absl::OkStatus();
}

absl::Status Session::CallAdmin(const std::string& method, const Message& request,
                                Message* response) {
  return Call("/sma.admin.v1.Admin/" + method, request, response);
}

absl::Status Session::Call(const std::string& method, const Message& request, Message* response) {
  if (auto channel = Channel(); !channel.ok()) return channel.status();
  grpc::ClientContext context;
  context.set_deadline(deadline_);
  std::promise<grpc::Status> done;
  grpc::TemplatedGenericStub<Message, Message> stub(channel_);
  stub.UnaryCall(&context, method, {}, &request, response,
                 [&done](grpc::Status status) { done.set_value(std::move(status)); });
  return ErrorOf(done.get_future().get());
}

absl::Status Session::ErrorOf(const grpc::Status& status) const {
  if (status.ok()) return absl::OkStatus();
  std::string message = status.error_message();
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE &&
      channel_->GetState(/*try_to_connect=*/false) != GRPC_CHANNEL_READY) {
    if (const std::string why = WhyNoTls(options); !why.empty()) message = why;
    message = fmt::format("cannot connect to the agent at {}: {}", options.address, message);
  }
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), message);
}

absl::Status Session::PrintJson(const Message& message, bool one_line) {
  google::protobuf::util::JsonPrintOptions print;
  print.add_whitespace = !one_line;
  print.preserve_proto_field_names = true;
  std::string text;
  auto status = google::protobuf::util::MessageToJsonString(message, &text, print);
  if (!status.ok()) return absl::InternalError("the response cannot be printed as JSON");
  if (!text.ends_with('\n')) text += '\n';
  streams.out << text;
  return absl::OkStatus();
}

}  // namespace sma::cli
