// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "jsonrpc/server.h"
#include "storage_target/rpc/rpc_result.h"

namespace sma::storage_target::rpc {

/// When a method may be called: `--wait-for-rpc` keeps the target in its start-up phase until
/// framework_start_init.
enum class Phase { kAny, kStartup, kRuntime };

/// Sends the response to a call, once; further responses are ignored. A copyable handle: if the
/// last copy is destroyed without a response, "Internal error" is sent. Used only on the control
/// reactor.
class Reply {
 public:
  explicit Reply(std::function<void(RpcResult)> answer);
  void operator()(RpcResult result) const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

/// The methods of the target, served to clients and to configuration files. Each part of the target
/// registers its own methods (`void RegisterNvmfRpc(RpcServer&, nvmf::Target&)`). Used only on the
/// control reactor; handlers run there and must not block.
class RpcServer {
 public:
  /// `params` is usually an object or null; the handler's Decode rejects anything else.
  using Handler = std::function<RpcResult(const Json& params)>;
  using AsyncHandler = std::function<void(const Json& params, Reply reply)>;

  /// A part of the target, as named by framework_get_subsystems and saved by framework_get_config.
  struct Subsystem {
    std::string name;
    std::vector<std::string> depends_on;
    /// Returns the calls ({"method": ..., "params": {...}}) that recreate the present state, in
    /// order.
    std::function<Json()> save = [] { return Json::array(); };
  };

  /// `server` must outlive this object.
  explicit RpcServer(jsonrpc::Server& server) : server_(server) {}
  RpcServer(const RpcServer&) = delete;
  RpcServer& operator=(const RpcServer&) = delete;

  void Register(const std::string& method, Handler handler, Phase phase = Phase::kRuntime);
  void RegisterAsync(const std::string& method, AsyncHandler handler,
                     Phase phase = Phase::kRuntime);

  /// Restricts the server to these methods; others are handled as if they did not exist.
  void Restrict(const std::vector<std::string>& methods);

  /// Adds a subsystem. The order in which they are added is the order in which they are saved and
  /// loaded.
  void AddSubsystem(Subsystem subsystem) { subsystems_.push_back(std::move(subsystem)); }
  const std::vector<Subsystem>& subsystems() const { return subsystems_; }

  /// Calls a method as a client would.
  void Call(std::string_view method, const Json& params, Reply reply) const;

  /// Returns the sorted names of the methods; with `current`, only of those that may be called now.
  std::vector<std::string> methods(bool current) const;

  /// The parameters of a method.
  struct Parameters {
    std::map<std::string, bool> required;  // by name: must it be given?
    /// True if members that are not listed are ignored instead of rejected.
    bool is_relaxed = false;
  };
  /// Returns the parameters that the handler of `method` decodes; returns none for a method that
  /// does not exist.
  Parameters ParametersOf(const std::string& method) const;

  /// kStartup or kRuntime.
  Phase phase() const { return phase_; }
  void set_phase(Phase phase) { phase_ = phase; }

 private:
  struct Method {
    AsyncHandler handler;
    Phase phase;
  };

  bool MayBeCalled(const Method& method) const {
    return method.phase == Phase::kAny || method.phase == phase_;
  }

  jsonrpc::Server& server_;
  Phase phase_ = Phase::kStartup;
  std::map<std::string, Method, std::less<>> methods_;
  std::vector<Subsystem> subsystems_;
};

}  // namespace sma::storage_target::rpc
