// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "base/unique_fd.h"
#include "storage_target/nvmf/tcp/admission.h"
#include "storage_target/nvmf/tcp/buffer_pool.h"
#include "storage_target/nvmf/tcp/connection.h"
#include "storage_target/nvmf/tcp/options.h"
#include "storage_target/reactor/reactor.h"
#include "storage_target/reactor/work.h"

namespace sma::storage_target::nvmf::tcp {

/// The connections of one transport in one reactor, and the memory for their data. Created and
/// destroyed on the control reactor; otherwise used on its own reactor.
class PollGroup final : private Poller, private DelayWatch {
 public:
  /// Called in this group's reactor, for each connection passed to Adopt: `closed` once,
  /// `connected` at most once.
  struct Events {
    /// Connect has completed; `discovery` is true for the discovery subsystem.
    std::function<void(uint64_t id, bool discovery)> connected;
    std::function<void(uint64_t id)> closed;
  };

  PollGroup(ControlPlane& control_plane, Reactor& reactor, const Options& options, Events events);

  ControlPlane& control_plane() const { return control_plane_; }
  Reactor& reactor() const { return reactor_; }
  const Options& options() const { return options_; }

  BufferPool& pool() { return pool_; }
  /// Returns the maximum number of bytes that a connection may have received but not parsed; it
  /// decreases with the number of connections.
  size_t input_limit() const { return input_limit_; }

  /// Serves a new connection. `id` must be unique.
  void Adopt(uint64_t id, base::UniqueFd fd, TransportAddress listen_address,
             TransportAddress peer_address);
  /// See Connection::Evict; does nothing if the connection no longer exists.
  void Evict(uint64_t id, Admission::State state);
  /// Closes all connections and accepts no more; calls `done` when they are destroyed.
  void Shutdown(std::function<void()> done);

  // The following functions are called by connections.

  /// Marks a connection that has just received data. More is likely to follow, so the socket is
  /// polled directly for a while, which is faster than epoll.
  void MarkHot(Connection& connection);
  void OnConnectCompleted(const Connection& connection);
  /// Must be called when the connection is closed.
  void Forget(Connection& connection);
  void Destroy(Connection& connection);

 private:
  bool Poll() override;
  void OnDelay(uint64_t clock_ns) override;
  void CheckProgress();
  void SetInputLimit();
  void FinishShutdown();

  ControlPlane& control_plane_;
  Reactor& reactor_;
  const Options options_;
  const Events events_;
  BufferPool pool_;
  size_t input_limit_ = 0;
  std::unordered_map<uint64_t, std::unique_ptr<Connection>> connections_;
  std::vector<Connection*> hot_;
  bool polling_ = false;   // registered as a poller of the reactor
  bool watching_ = false;  // registered as a delay watch of the reactor
  Reactor::TimerId progress_timer_ = 0;
  std::function<void()> when_shut_down_;
};

}  // namespace sma::storage_target::nvmf::tcp
