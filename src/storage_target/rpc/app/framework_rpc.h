// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <functional>
#include <vector>

#include "storage_target/reactor/reactor.h"
#include "storage_target/rpc/rpc_server.h"

namespace sma::storage_target::rpc {

/// The start-up phase as seen by clients: framework_start_init ends it, and framework_wait_init
/// waits for its end. Used only on the control reactor.
class FrameworkInit {
 public:
  explicit FrameworkInit(RpcServer& server) : server_(server) {}

  /// Ends the start-up phase and sends the replies of Wait.
  void Finish();
  /// Sends `reply` when the start-up phase has ended.
  void Wait(Reply reply);
  /// Sets the function that framework_start_init runs; it must call Finish, then `done`.
  void set_start(std::function<void(std::function<void()> done)> start) {
    start_ = std::move(start);
  }
  void Start(const Reply& reply);

 private:
  RpcServer& server_;
  std::function<void(std::function<void()>)> start_;
  std::vector<Reply> waiting_;
};

/// Registers spdk_get_version, rpc_get_methods, spdk_kill_instance and framework_*.
void RegisterFrameworkRpc(RpcServer& server, FrameworkInit& init);

/// Registers framework_get_reactors and thread_*, which return statistics of the event loops.
/// `reactors` are sorted by index and must live as long as the program.
void RegisterReactorRpc(RpcServer& server, std::vector<const Reactor*> reactors);

/// Registers log_*, for the log levels.
void RegisterLogRpc(RpcServer& server);

/// Registers methods of SPDK for settings that do not exist here, for example the sizes of its
/// pools. Configurations for SPDK contain calls of these methods, so the calls are accepted and a
/// notice is logged.
void RegisterIgnoredRpc(RpcServer& server);

}  // namespace sma::storage_target::rpc
