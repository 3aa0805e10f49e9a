#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "base/unique_fd.h"
#include "jsonrpc/protocol.h"

namespace sma::jsonrpc {

class Exchange;

/// Answers one request. A handle: copies stand for the same request, which is answered once;
/// further answers are ignored. May be kept and used later, in the server's thread only; harmless
/// when the connection or the server is gone. When the last copy goes unanswered, the answer is
/// -32603.
class Responder {
 public:
  explicit Responder(std::shared_ptr<Exchange> exchange) : exchange_(std::move(exchange)) {}

  void Result(const Json& result) const;
  void Error(int code, std::string_view message) const;

 private:
  std::shared_ptr<Exchange> exchange_;
};

struct ServerOptions {
  size_t max_request_bytes = kMaxRequestBytes;
  /// Answers that a connection may have waiting to be written before no more of its requests are
  /// started.
  size_t max_queued_answer_bytes = 4 * 1024 * 1024;
  /// Once the answers of a batch are larger, the rest of its requests are answered -32603 and not
  /// run.
  size_t max_batch_answer_bytes = 32 * 1024 * 1024;
  /// When the answers of all connections that wait to be written are larger, the connection with
  /// the most of them is closed.
  size_t max_total_answer_bytes = 128 * 1024 * 1024;
  /// A connection whose peer takes nothing of its answers for so long is closed.
  std::chrono::milliseconds send_timeout{30'000};
  /// How long one Poll() starts requests, and how long those of one connection, before others have
  /// their turn. Each runs at least one request.
  std::chrono::microseconds round_time{5000};
  std::chrono::microseconds connection_time{1000};
  /// Requests of one connection that may be unanswered before no more of them are read; a batch
  /// counts as one.
  size_t max_requests_in_progress = 4096;
  /// A connection beyond it, or beyond the process's descriptors, replaces the one that has been
  /// idle for longest; without an idle one it is closed at once. Idle: no call is under way and no
  /// answer waits to be written.
  size_t max_connections = 256;
  /// 0: requests are served and answers written at once. Otherwise sockets are looked at only this
  /// often, and an answer is written no sooner than at the next look, as SPDK does (with 4 ms, so
  /// that a lone call takes 8 ms there and any number of pipelined calls take the same 8 ms).
  std::chrono::milliseconds poll_period{0};
};

/// A JSON-RPC 2.0 server on Unix stream sockets, run by any event loop: watch fd() for reading and
/// call Poll() when it is ready. All members and all handlers run in that one thread. Nothing
/// blocks.
///
/// A peer may send requests without waiting for answers; those of one connection start in order and
/// are answered in the order in which they finish. Each answer ends in a newline. As SPDK does it:
/// a request without id is served and not answered; the answers of a batch come together, when all
/// are done; an empty batch and an element that is no request are answered -32600; bytes that are
/// no JSON object or array, and a request over the limit, close the connection without an answer.
class Server {
 public:
  /// `params` is an object or array, or null when the request has none. It is valid during the call
  /// only.
  using Handler = std::function<void(const Json& params, Responder responder)>;

  /// Aborts the program when the kernel gives no epoll or timer descriptor.
  explicit Server(ServerOptions options = {});
  /// Stop().
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  /// Serves `method` with `handler`, instead of an earlier one for it. Not from inside a handler.
  void Register(std::string method, Handler handler);

  /// The names of all methods, sorted.
  std::vector<std::string> methods() const;

  /// Listens on a socket at `path`, with exactly the permissions `mode`. A socket file that nobody
  /// listens on is replaced. `path`.lock is locked meanwhile, as SPDK does. ALREADY_EXISTS: another
  /// program listens there; INVALID_ARGUMENT: too long, or the path of something that is no socket;
  /// else what the kernel said. May be called for several paths.
  absl::Status Listen(const std::string& path, mode_t mode = 0600);

  /// Serves one connected stream socket.
  void AddConnection(base::UniqueFd socket);

  /// Readable when Poll() has something to do. Stays the same until the server is destroyed.
  int fd() const;

  /// Serves what is ready, each connection in turn, for about ServerOptions::round_time. fd() is
  /// readable again when more is to be done.
  void Poll();

  /// Closes all connections and stops listening; removes the socket files. Not from inside a
  /// handler.
  void Stop();

  size_t connection_count() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sma::jsonrpc
