#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "base/unique_fd.h"
#include "target/nvmf/tcp/connection.h"
#include "target/nvmf/tcp/options.h"
#include "target/reactor/reactor.h"
#include "target/reactor/work.h"

namespace sma::target::nvmf::tcp {

/// The connections of one transport in one reactor. Made and destroyed in the control reactor;
/// everything else in its own reactor.
class PollGroup final : private Poller {
 public:
  PollGroup(ControlPlane& control_plane, Reactor& reactor, const Options& options)
      : control_plane_(control_plane), reactor_(reactor), options_(options) {}

  ControlPlane& control_plane() const { return control_plane_; }
  Reactor& reactor() const { return reactor_; }
  const Options& options() const { return options_; }

  /// Serves a new connection.
  void Adopt(base::UniqueFd fd, TransportAddress listen_address, TransportAddress peer_address);
  /// Closes all connections and takes no more; `done` runs when they are destroyed.
  void Shutdown(std::function<void()> done);

  // For connections.

  /// Something came just now: more is likely to, so look at the socket itself for a while, which is
  /// quicker than to ask epoll.
  void MarkHot(Connection& connection);
  /// It is closed.
  void Forget(Connection& connection);
  void Destroy(Connection& connection);

 private:
  bool Poll() override;
  void CheckProgress();
  void FinishShutdown();

  ControlPlane& control_plane_;
  Reactor& reactor_;
  const Options options_;
  std::unordered_map<Connection*, std::unique_ptr<Connection>> connections_;
  std::vector<Connection*> hot_;
  bool polling_ = false;  // known to the reactor
  Reactor::TimerId progress_timer_ = 0;
  std::function<void()> when_shut_down_;
};

}  // namespace sma::target::nvmf::tcp
