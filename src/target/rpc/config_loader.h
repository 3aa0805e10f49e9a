#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "jsonrpc/protocol.h"
#include "target/rpc/rpc_server.h"

namespace sma::target::rpc {

/// A configuration file in SPDK's form: {"subsystems": [{"subsystem": NAME, "config": [{"method",
/// "params"}, ...]}]}, an element of `config` being a call or a list of calls. Its calls are made
/// one after the other. Control reactor only.
class ConfigLoader {
 public:
  /// The calls of a file; INVALID_ARGUMENT or NOT_FOUND with words for the operator.
  static absl::StatusOr<ConfigLoader> Read(const RpcServer& server, const std::string& path);

  /// The calls of a file's text, which may hold // and /* */ comments; INVALID_ARGUMENT.
  static absl::StatusOr<ConfigLoader> Parse(const RpcServer& server, std::string_view text);

  /// Makes those calls that may be made in the server's present phase and have not been made; then
  /// `done`, with the first error (those after it are not made). This object must live until then.
  void Run(std::function<void(absl::Status)> done);

  size_t call_count() const { return calls_.size(); }

 private:
  struct Call {
    std::string method;
    Json params;
    bool made = false;
  };

  explicit ConfigLoader(const RpcServer& server) : server_(&server) {}
  absl::Status AddSubsystem(const Json& subsystem);
  absl::Status AddCall(const Json& call);
  void Continue();
  bool MakeCall(Call& call);
  void End(absl::Status status);

  const RpcServer* server_;
  std::vector<Call> calls_;
  // Of the present run.
  size_t next_ = 0;
  bool in_call_ = false;
  bool answered_ = false;
  std::vector<std::string> callable_;  // sorted
  std::function<void(absl::Status)> done_;
};

}  // namespace sma::target::rpc
