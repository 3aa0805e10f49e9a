// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <functional>
#include <string>

#include "base/unique_fd.h"
#include "storage_target/reactor/reactor.h"
#include "storage_target/reactor/work.h"

namespace sma::storage_target {

/// An accepted connection with the address of its peer.
struct AcceptedPeer {
  base::UniqueFd socket;  // non-blocking, close-on-exec
  sockaddr_storage address{};
  socklen_t address_bytes = 0;
};

/// Accepts connections on a listening socket. If descriptors or memory are exhausted, the
/// connection stays in the kernel's queue, and accepting is retried every 100 ms, because epoll
/// would otherwise report the socket as readable all the time. Used only on the reactor's thread,
/// except for the constructor.
class Acceptor final : private FdHandler {
 public:
  struct Options {
    /// The address of the socket, for log lines.
    std::string name{};
    /// True if the last descriptors of the process (base::DescriptorReserve) are reserved for the
    /// control plane: connections wait while no other descriptors are free.
    bool keep_reserve = false;
    /// Called before each connection is accepted, unless empty. If it returns false, nothing is
    /// accepted until SetAccepting(true).
    std::function<bool()> may_accept{};
  };
  /// Receives each accepted connection. May call SetAccepting, but must not destroy the acceptor.
  using OnAccept = std::function<void(AcceptedPeer peer)>;

  /// `listener` is a non-blocking socket for which listen(2) was called. Does not accept yet.
  Acceptor(Reactor& reactor, base::UniqueFd listener, Options options, OnAccept on_accept);
  /// Stops accepting and closes the socket. May be called on another thread only after
  /// SetAccepting(false).
  ~Acceptor() override;
  Acceptor(const Acceptor&) = delete;
  Acceptor& operator=(const Acceptor&) = delete;

  /// Starts or stops accepting. While accepting is stopped, connections wait in the kernel's queue.
  /// Idempotent. Returns 0, or a positive errno value if the reactor cannot watch the socket.
  int SetAccepting(bool accepting);
  bool accepting() const { return accepting_; }

  /// Stops accepting and releases the socket, for an owner that must not block in its close(2). The
  /// acceptor cannot be used afterwards.
  base::UniqueFd TakeListener();

 private:
  void OnFdReady(uint32_t events) override;
  // Returns 0, or the errno value of a failure that is not specific to one connection.
  int AcceptOne();
  void Pause(int error);

  Reactor& reactor_;
  base::UniqueFd listener_;
  const Options options_;
  const OnAccept on_accept_;
  bool accepting_ = false;
  Reactor::TimerId resume_timer_ = 0;
  uint64_t reported_ns_ = 0;  // time of the last logged failure
};

}  // namespace sma::storage_target
