// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

#include "base/unique_fd.h"

namespace sma::service {

/// Accepts connections for a server, on its own thread. gRPC's own listener closes permanently when
/// accept(2) fails, which happens at the descriptor limit (gRPC 1.51, tcp_server_posix.cc). This
/// one continues: connections above the limit, minus a reserve for the agent's own descriptors
/// (base::DescriptorReserve), are closed immediately, so that their clients retry.
class Acceptor {
 public:
  /// Receives each accepted connection and takes ownership of it. `fd` is non-blocking.
  using Handler = std::function<void(int listener, base::UniqueFd fd)>;

  /// `listeners` are non-blocking, listening sockets. Connections whose descriptor number is
  /// `max_descriptor` or higher are closed. `housekeeping` is called in the same thread once every
  /// `period`.
  Acceptor(std::vector<base::UniqueFd> listeners, uint32_t max_descriptor, Handler handler,
           std::chrono::milliseconds period, std::function<void()> housekeeping);

  /// Closes the listeners. Blocks until a running handler has returned; no handler runs afterwards.
  ~Acceptor();

  Acceptor(const Acceptor&) = delete;
  Acceptor& operator=(const Acceptor&) = delete;

 private:
  void Run();
  bool AcceptOne(int listener);
  void OnError(int listener, int error);
  void OnRefused(const char* reason);

  const std::vector<base::UniqueFd> listeners_;
  const uint32_t max_descriptor_;
  const Handler handler_;
  const std::chrono::milliseconds period_;
  const std::function<void()> housekeeping_;
  const base::UniqueFd stop_event_;  // eventfd(2)

  // Used only by the thread.
  base::UniqueFd reserve_;  // closed at the limit, so that a connection can be accepted and closed
  uint64_t refused_ = 0;
  int64_t next_log_s_ = 0;

  std::thread thread_;
};

}  // namespace sma::service
