// SPDX-License-Identifier: Apache-2.0

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

/// Answers one request. Copies are handles for the same request, which is answered once; further
/// answers are ignored. A responder may be kept and used later, but only on the server's thread; it
/// has no effect after the connection or the server has been destroyed. If the last copy is
/// destroyed without an answer, the answer is -32603.
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
  /// If the unwritten answers of a connection exceed this size, no more of its requests are
  /// started.
  size_t max_queued_answer_bytes = 4 * 1024 * 1024;
  /// If the answers of a batch exceed this size, the rest of its requests are answered with -32603
  /// and not executed.
  size_t max_batch_answer_bytes = 32 * 1024 * 1024;
  /// If the unwritten answers of all connections exceed this size, the connection with the largest
  /// share is closed.
  size_t max_total_answer_bytes = 128 * 1024 * 1024;
  /// A connection is closed if its peer accepts none of its answers for this time.
  std::chrono::milliseconds send_timeout{30'000};
  /// The time for which one Poll() starts requests in total, and the time for which it starts
  /// requests of one connection before it serves the others. At least one request runs in each
  /// case.
  std::chrono::microseconds round_time{5000};
  std::chrono::microseconds connection_time{1000};
  /// If a connection has this many unanswered requests, no more of them are read. A batch counts as
  /// one.
  size_t max_requests_in_progress = 4096;
  /// A connection beyond this number, or beyond the process's descriptors, replaces the one that
  /// has been idle longest; if none is idle, the new connection is closed immediately. A connection
  /// is idle if no call is in progress and no answer waits to be written.
  size_t max_connections = 256;
  /// With 0, requests are served and answers are written immediately. Otherwise sockets are polled
  /// with this period, and an answer is written no earlier than in the next poll, as in SPDK (with
  /// 4 ms, so that a single call takes 8 ms there, and any number of pipelined calls take the same
  /// 8 ms).
  std::chrono::milliseconds poll_period{0};
};

/// A JSON-RPC 2.0 server on Unix stream sockets, which any event loop can run: watch fd() for
/// reading and call Poll() when it is ready. All members and all handlers run in that one thread.
/// Never blocks.
///
///  A peer may send requests without waiting for answers; the requests of one connection start in
/// order and are answered in the order in which they finish. Each answer ends in a newline. As in
/// SPDK: a request without id is executed and not answered; the answers of a batch are sent
/// together when all are done; an empty batch, and an element that is not a request, are answered
/// with -32600; bytes that are not a JSON object or array, and a request over the size limit, close
/// the connection without an answer.
class Server {
 public:
  /// `params` is an object or array, or null if the request has none. It is valid only during the
  /// call.
  using Handler = std::function<void(const Json& params, Responder responder)>;

  /// Aborts the program if the kernel provides no epoll or timer descriptor.
  explicit Server(ServerOptions options = {});
  /// Calls Stop().
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  /// Serves `method` with `handler`, replacing an earlier handler. Must not be called from a
  /// handler.
  void Register(std::string method, Handler handler);

  /// Returns the names of all methods, sorted.
  std::vector<std::string> methods() const;

  /// Listens on a socket at `path`, with exactly the permissions `mode`. A socket file on which no
  /// process listens is replaced. While listening, holds the lock file `path`.lock, as SPDK does.
  /// May be called for several paths. Errors: ALREADY_EXISTS if another program listens there;
  /// INVALID_ARGUMENT if the path is too long or an existing file is not a socket; otherwise the
  /// kernel's error.
  absl::Status Listen(const std::string& path, mode_t mode = 0600);

  /// Serves one connected stream socket.
  void AddConnection(base::UniqueFd socket);

  /// Returns a descriptor that is readable when Poll() has work. It does not change until the
  /// server is destroyed.
  int fd() const;

  /// Serves the ready connections in turn, for about ServerOptions::round_time. fd() remains
  /// readable if there is more work.
  void Poll();

  /// Closes all connections, stops listening and removes the socket files. Must not be called from
  /// a handler.
  void Stop();

  size_t connection_count() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sma::jsonrpc
