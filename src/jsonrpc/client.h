#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "jsonrpc/caller.h"
#include "jsonrpc/protocol.h"

namespace sma::jsonrpc {

struct ClientOptions {
  std::string socket_path;

  /// Refuses a target that runs as another user than this process's or root (base::CheckPeerUser),
  /// on every connect: nothing is sent to it, and WaitConnected() and calls name it as the reason.
  bool trusted_users_only = false;

  /// How long a call waits for a connection when there is none; its context may end the wait
  /// sooner.
  std::chrono::nanoseconds connect_wait = std::chrono::seconds(2);

  /// The pause after a failed attempt to connect doubles from the first to the second value; each
  /// is shortened at random by up to a half. It starts over when a connection has brought an
  /// answer.
  std::chrono::nanoseconds min_backoff = std::chrono::milliseconds(10);
  std::chrono::nanoseconds max_backoff = std::chrono::seconds(1);

  /// How long a request without an answer counts as one that the target may still act on.
  std::chrono::nanoseconds max_answer_time = std::chrono::minutes(5);

  size_t max_request_bytes = kMaxRequestBytes;
  /// A larger answer, or a batch's answers that are larger together, closes the connection.
  size_t max_answer_bytes = 64 * 1024 * 1024;

  /// Sends the requests of one CallMany as a JSON-RPC batch (JSON-RPC 2.0 §6). The answers then
  /// come when all of them are done. SPDK takes batches from 26.05 on.
  bool use_batches = false;

  /// Called in the client's own thread after each connect, before calls go over the new connection,
  /// and after each disconnect, after the calls in flight were ended. `generation` numbers the
  /// connections from 1. They must not call the client (but for generation()) and should not block:
  /// nothing is received meanwhile.
  std::function<void(uint64_t generation)> on_connect;
  std::function<void(uint64_t generation, const absl::Status& reason)> on_disconnect;
};

/// Counts since the client was started.
struct ClientStats {
  uint64_t calls_sent = 0;     // requests given to a connection
  uint64_t round_trips = 0;    // Call or CallMany that sent anything
  uint64_t results = 0;        // answers with a result
  uint64_t target_errors = 0;  // answers with an error
  uint64_t given_up = 0;  // requests sent whose context ended or whose connection was lost first
  uint64_t late_answers = 0;  // answers to requests given up
};

/// A client of one target over a Unix socket. All callers share one connection; requests are
/// pipelined and answers matched by id, in whatever order they come. A thread of its own connects,
/// receives and reconnects; a request is written by the caller's thread, which never blocks for
/// longer than its context allows. Parameters and results are never logged.
class Client final : public Caller {
 public:
  /// Returns at once; connects in the background.
  static std::unique_ptr<Client> Start(ClientOptions options);

  /// Stop(). No call may be in progress in another thread.
  ~Client() override;

  /// Ends all calls, present and future, with UNAVAILABLE and closes the connection. Again:
  /// nothing. Not from an on_connect or on_disconnect.
  void Stop();

  std::vector<absl::StatusOr<Json>> CallMany(const base::Context& context,
                                             std::span<const Request> requests) override;
  uint64_t generation() const override;
  bool MayActLate(std::span<const std::string> objects,
                  std::chrono::nanoseconds after_loss) const override;

  bool connected() const;

  /// Waits until there is a connection or `context` ends: OK; CANCELLED; else UNAVAILABLE.
  absl::Status WaitConnected(const base::Context& context);

  ClientStats stats() const;

 private:
  class Impl;
  explicit Client(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sma::jsonrpc
