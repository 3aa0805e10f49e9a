#pragma once

#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

#include "base/unique_fd.h"

namespace sma::service {

/// Accepts connections for a server, in a thread of its own. gRPC's listener is closed for good
/// when accept(2) fails, as it does at the limit of descriptors (gRPC 1.51, tcp_server_posix.cc).
/// This one goes on: connections beyond the limit, less a reserve for what the agent opens itself
/// (base::DescriptorReserve), are closed at once, so that their clients try again.
class Acceptor {
 public:
  /// Receives each accepted connection, of which it becomes the owner. `fd` does not block.
  using Handler = std::function<void(int listener, base::UniqueFd fd)>;

  /// `listeners` are sockets that listen and do not block. `max_descriptor`: connections with this
  /// number or a higher one are closed.
  Acceptor(std::vector<base::UniqueFd> listeners, uint32_t max_descriptor, Handler handler);

  /// Closes the listeners. No handler runs afterwards. Blocks until a running one has returned.
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
  const base::UniqueFd stop_event_;  // eventfd(2)

  // Owned by the thread.
  base::UniqueFd reserve_;  // closed to accept, and close, a connection at the limit
  uint64_t refused_ = 0;
  int64_t next_log_s_ = 0;

  std::thread thread_;
};

}  // namespace sma::service
