#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "jsonrpc/server.h"
#include "target/rpc/rpc_result.h"

namespace sma::target::rpc {

/// When a method may be called: `--wait-for-rpc` holds the target back in its start-up phase until
/// framework_start_init.
enum class Phase { kAny, kStartup, kRuntime };

/// Answers a call, once; later answers are ignored. A handle that may be copied and kept; when the
/// last copy goes without an answer, the answer is "Internal error". Control reactor only.
class Reply {
 public:
  explicit Reply(std::function<void(RpcResult)> answer);
  void operator()(RpcResult result) const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

/// The methods of the target, and what it needs to serve them to clients and to configuration
/// files. Each area of the target registers its own (`void RegisterNvmfRpc(RpcServer&,
/// nvmf::Target&)`). Control reactor only; handlers run there and must not block.
class RpcServer {
 public:
  /// `params` is an object or null, or anything else that the handler's Decode will refuse.
  using Handler = std::function<RpcResult(const Json& params)>;
  using AsyncHandler = std::function<void(const Json& params, Reply reply)>;

  /// One part of the target as framework_get_subsystems names it and framework_get_config saves it.
  struct Subsystem {
    std::string name;
    std::vector<std::string> depends_on;
    /// The calls ({"method": ..., "params": {...}}) that make again what there is now, in their
    /// order.
    std::function<Json()> save = [] { return Json::array(); };
  };

  /// `server` outlives this.
  explicit RpcServer(jsonrpc::Server& server) : server_(server) {}
  RpcServer(const RpcServer&) = delete;
  RpcServer& operator=(const RpcServer&) = delete;

  void Register(const std::string& method, Handler handler, Phase phase = Phase::kRuntime);
  void RegisterAsync(const std::string& method, AsyncHandler handler,
                     Phase phase = Phase::kRuntime);

  /// Serves only these methods from now on; the others are answered as if they did not exist.
  void Restrict(const std::vector<std::string>& methods);

  /// In the order in which they are to be saved and loaded.
  void AddSubsystem(Subsystem subsystem) { subsystems_.push_back(std::move(subsystem)); }
  const std::vector<Subsystem>& subsystems() const { return subsystems_; }

  /// Calls a method as a client would.
  void Call(std::string_view method, const Json& params, Reply reply) const;

  /// Names, sorted; only those that may be called now if `current`.
  std::vector<std::string> methods(bool current) const;

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

}  // namespace sma::target::rpc
