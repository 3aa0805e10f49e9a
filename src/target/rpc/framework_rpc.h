#pragma once

#include <functional>
#include <vector>

#include "target/reactor/reactor.h"
#include "target/rpc/rpc_server.h"

namespace sma::target::rpc {

/// Start-up as clients see it: framework_start_init ends the start-up phase, framework_wait_init
/// waits for its end. Control reactor only.
class FrameworkInit {
 public:
  explicit FrameworkInit(RpcServer& server) : server_(server) {}

  /// Ends the start-up phase and answers those who wait for that.
  void Finish();
  /// Answers when the start-up phase has ended.
  void Wait(Reply reply);
  /// What framework_start_init sets going; it is to call Finish, then `done`.
  void set_start(std::function<void(std::function<void()> done)> start) {
    start_ = std::move(start);
  }
  void Start(const Reply& reply);

 private:
  RpcServer& server_;
  std::function<void(std::function<void()>)> start_;
  std::vector<Reply> waiting_;
};

/// spdk_get_version, rpc_get_methods, spdk_kill_instance, framework_*.
void RegisterFrameworkRpc(RpcServer& server, FrameworkInit& init);

/// framework_get_reactors and thread_*: how busy the event loops are. `reactors` in the order of
/// their index; they live as long as the program.
void RegisterReactorRpc(RpcServer& server, std::vector<const Reactor*> reactors);

/// log_*: how much is logged.
void RegisterLogRpc(RpcServer& server);

/// Methods of SPDK that set what does not exist here (sizes of its pools, say): configurations made
/// for SPDK have them, so they are taken, and a notice is logged.
void RegisterIgnoredRpc(RpcServer& server);

}  // namespace sma::target::rpc
