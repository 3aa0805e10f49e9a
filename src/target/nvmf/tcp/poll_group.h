#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "base/unique_fd.h"
#include "target/nvmf/tcp/buffer_pool.h"
#include "target/nvmf/tcp/connection.h"
#include "target/nvmf/tcp/options.h"
#include "target/reactor/reactor.h"
#include "target/reactor/work.h"

namespace sma::target::nvmf::tcp {

/// The connections of one transport in one reactor, and the memory for their data. Made and
/// destroyed in the control reactor; everything else in its own reactor.
class PollGroup final : private Poller {
 public:
  /// Both are called in this group's reactor, once for each connection that Adopt was given.
  struct Events {
    std::function<void(uint64_t id)> logged_in;  // by Connect; not for each
    std::function<void(uint64_t id)> gone;
  };

  PollGroup(ControlPlane& control_plane, Reactor& reactor, const Options& options, Events events);

  ControlPlane& control_plane() const { return control_plane_; }
  Reactor& reactor() const { return reactor_; }
  const Options& options() const { return options_; }

  BufferPool& pool() { return pool_; }
  /// How much one connection may have received and not parsed, in bytes: less with many of them.
  size_t input_limit() const { return input_limit_; }

  /// Serves a new connection; `id`, never used before, stands for it.
  void Adopt(uint64_t id, base::UniqueFd fd, TransportAddress listen_address,
             TransportAddress peer_address);
  /// Connection::Evict; does nothing if it is gone.
  void Evict(uint64_t id);
  /// Closes all connections and takes no more; `done` runs when they are destroyed.
  void Shutdown(std::function<void()> done);

  // For connections.

  /// Something came just now: more is likely to, so look at the socket itself for a while, which is
  /// quicker than to ask epoll.
  void MarkHot(Connection& connection);
  void OnLoggedIn(const Connection& connection);
  /// It is closed.
  void Forget(Connection& connection);
  void Destroy(Connection& connection);

 private:
  bool Poll() override;
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
  bool polling_ = false;  // known to the reactor
  Reactor::TimerId progress_timer_ = 0;
  std::function<void()> when_shut_down_;
};

}  // namespace sma::target::nvmf::tcp
