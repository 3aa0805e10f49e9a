// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "jsonrpc/protocol.h"
#include "storage_target/rpc/rpc_server.h"

namespace sma::storage_target::rpc {

/// A configuration file in SPDK's format: {"subsystems": [{"subsystem": NAME, "config": [{"method",
/// "params"}, ...]}]}, where an element of `config` is a call or a list of calls. Runs the calls
/// one after another. Parts that this target does not support are skipped, and this is logged:
/// subsystems with unknown names, calls with the error is_unsupported, and calls that need an
/// object whose call was skipped. Used only on the control reactor.
class ConfigLoader {
 public:
  /// Reads the calls of a file. Returns INVALID_ARGUMENT or NOT_FOUND with a message for the
  /// operator.
  static absl::StatusOr<ConfigLoader> Read(const RpcServer& server, const std::string& path);

  /// Parses the text of a file, which may contain // and /* */ comments. Returns INVALID_ARGUMENT
  /// on error.
  static absl::StatusOr<ConfigLoader> Parse(const RpcServer& server, std::string_view text);

  /// Called with the error of a call: its place in the file, its object, message and code. Returns
  /// true to continue with the calls that follow it.
  using OnError = std::function<bool(const absl::Status& error)>;

  /// Runs the calls that are allowed in the server's current phase and have not run; then calls
  /// `done` with OK, or with the first error for which `on_error` did not return true, after which
  /// no more calls are run. This object must live until then.
  void Run(std::function<void(absl::Status)> done, OnError on_error = nullptr);

  size_t call_count() const { return calls_.size(); }

 private:
  struct Call {
    std::string method;
    Json params;
    std::string place;  // in the file, for messages
    bool made = false;
  };

  explicit ConfigLoader(const RpcServer& server) : server_(&server) {}
  absl::Status AddSubsystem(const Json& subsystem);
  absl::Status AddCall(const Json& call, const std::string& place);
  static std::string InSubsystem(const std::string& name);
  bool BelongsToThisRun(const Call& call) const;
  void Continue();
  bool IsLeftOut(Call& call);
  void LeaveOut(Call& call, const std::string& why);
  bool MakeCall(Call& call);
  static std::string Name(const Call& call);
  absl::Status Describe(const Call& call, const RpcError& error) const;
  void End(absl::Status status);

  const RpcServer* server_;
  std::string path_;  // of the file, as a prefix of messages
  std::vector<Call> calls_;
  std::set<std::string, std::less<>> left_out_;  // names and UUIDs
  // State of the current run.
  size_t next_ = 0;
  bool in_call_ = false;
  bool answered_ = false;
  std::vector<std::string> known_;     // sorted
  std::vector<std::string> callable_;  // sorted
  std::function<void(absl::Status)> done_;
  OnError on_error_;
};

}  // namespace sma::storage_target::rpc
