#pragma once

#include <google/protobuf/message.h>
#include <grpcpp/channel.h>
#include <grpcpp/support/status.h>

#include <chrono>
#include <functional>
#include <istream>
#include <memory>
#include <ostream>
#include <string>

#include "absl/status/statusor.h"
#include "cli/address.h"

namespace sma::cli {

/// Where a command reads from and writes to.
struct Streams {
  std::istream& in;
  std::ostream& out;
  std::ostream& err;
  bool use_colour = false;  // whether `out` shows colours
};

/// What can be said to every command.
struct GlobalOptions {
  std::string address = kDefaultAddress;
  std::string timeout = "60s";
  bool json = false;
  bool tls = false;
  std::string ca_file;    // implies tls
  std::string cert_file;  // implies tls, needs key_file
  std::string key_file;
};

/// One run of the program: its options, what it was asked to do, and its connection to the agent.
class Session {
 public:
  explicit Session(Streams streams_in) : streams(streams_in) {}

  /// Calls `method` ("/sma.StorageManagementAgent/CreateDevice") and waits for the answer. Errors:
  /// the agent's own; UNAVAILABLE when it cannot be reached; INVALID_ARGUMENT for options of the
  /// connection that make no sense.
  absl::Status Call(const std::string& method, const google::protobuf::Message& request,
                    google::protobuf::Message* response);

  /// As Call, for a method of the admin service: "ListDevices".
  absl::Status CallAdmin(const std::string& method, const google::protobuf::Message& request,
                         google::protobuf::Message* response);

  /// The channel to the agent. INVALID_ARGUMENT for options of the connection that make no sense.
  absl::StatusOr<std::shared_ptr<grpc::Channel>> Channel();

  /// `status` of a call as an error for people: says so when there is no agent.
  absl::Status ErrorOf(const grpc::Status& status) const;

  /// Prints `message` as JSON, proto field names as they are; on one line or, by default, several.
  absl::Status PrintJson(const google::protobuf::Message& message, bool one_line = false);

  const Streams streams;
  GlobalOptions options;
  std::function<absl::Status()> action;  // set by the command that was given

 private:
  absl::Status Connect();

  std::shared_ptr<grpc::Channel> channel_;
  std::chrono::system_clock::time_point deadline_;
};

/// The whole of `path`, or of standard input for "-". Errors name the file.
absl::StatusOr<std::string> ReadFile(const std::string& path, std::istream& standard_input);

}  // namespace sma::cli
