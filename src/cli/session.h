// SPDX-License-Identifier: Apache-2.0

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

/// The standard streams of a command.
struct Streams {
  std::istream& in;
  std::ostream& out;
  std::ostream& err;
  bool use_colour = false;  // true if `out` is a terminal with colours
};

/// The options that every command has.
struct GlobalOptions {
  std::string address = kDefaultAddress;
  std::string timeout = "60s";
  bool json = false;
  bool tls = false;
  std::string ca_file;    // implies tls
  std::string cert_file;  // implies tls, needs key_file
  std::string key_file;
};

/// One run of the program: its options, its action, and its connection to the agent.
class Session {
 public:
  explicit Session(Streams streams_in) : streams(streams_in) {}

  /// Calls `method`, for example "/sma.StorageManagementAgent/CreateDevice", and waits for the
  /// response. Returns the agent's error; returns UNAVAILABLE if the agent cannot be reached, and
  /// INVALID_ARGUMENT for invalid connection options.
  absl::Status Call(const std::string& method, const google::protobuf::Message& request,
                    google::protobuf::Message* response);

  /// Calls a method of the published service, for example "DeleteDevice". Then prints `line`, or
  /// with --json the response.
  absl::Status CallAndPrint(const std::string& method, const google::protobuf::Message& request,
                            google::protobuf::Message* response, const std::string& line);

  /// Like Call, for a method of the admin service, for example "ListDevices".
  absl::Status CallAdmin(const std::string& method, const google::protobuf::Message& request,
                         google::protobuf::Message* response);

  /// Returns the channel to the agent. Returns INVALID_ARGUMENT for invalid connection options.
  absl::StatusOr<std::shared_ptr<grpc::Channel>> Channel();

  /// Converts the status of a call to a human-readable error, which says so if the agent cannot be
  /// reached.
  absl::Status ErrorOf(const grpc::Status& status) const;

  /// Prints `message` as JSON with the field names of the .proto files, on several lines unless
  /// `one_line` is set.
  absl::Status PrintJson(const google::protobuf::Message& message, bool one_line = false);

  const Streams streams;
  GlobalOptions options;
  std::function<absl::Status()> action;  // set by the command that is given

 private:
  absl::Status Connect();

  std::shared_ptr<grpc::Channel> channel_;
  std::chrono::system_clock::time_point deadline_;
};

/// Reads the file `path`, or standard input if it is "-". Error messages name the file.
absl::StatusOr<std::string> ReadFile(const std::string& path, std::istream& standard_input);

}  // namespace sma::cli
