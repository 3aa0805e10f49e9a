// SPDX-License-Identifier: Apache-2.0

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

  /// On every connect, refuses a target that runs as a user other than root or this process's user
  /// (base::CheckPeerUser). Nothing is sent to such a target, and WaitConnected() and calls return
  /// the reason.
  bool trusted_users_only = false;

  /// How long a call waits for a connection if there is none, unless its context ends earlier.
  std::chrono::nanoseconds connect_wait = std::chrono::seconds(2);

  /// The pause after a failed attempt to connect doubles from the first to the second value; each
  /// pause is shortened at random by up to a half. It is reset when an answer is received.
  std::chrono::nanoseconds min_backoff = std::chrono::milliseconds(10);
  std::chrono::nanoseconds max_backoff = std::chrono::seconds(1);

  /// How long the target is assumed to be able to execute a request that has no answer.
  std::chrono::nanoseconds max_answer_time = std::chrono::minutes(5);

  size_t max_request_bytes = kMaxRequestBytes;
  /// The connection is closed if an answer, or all answers to a batch together, exceed this size.
  size_t max_answer_bytes = 64 * 1024 * 1024;

  /// Sends the requests of one CallMany as a JSON-RPC batch (JSON-RPC 2.0 §6). The answers then
  /// arrive when all requests are done. SPDK supports batches since 26.05.
  bool use_batches = false;

  /// Called on the client's own thread: on_connect after each connect, before calls use the new
  /// connection; on_disconnect after each disconnect, when the outstanding calls have been ended.
  /// `generation` numbers the connections from 1. They must not call the client, except for
  /// generation(), and should not block, because nothing is received meanwhile.
  std::function<void(uint64_t generation)> on_connect;
  std::function<void(uint64_t generation, const absl::Status& reason)> on_disconnect;
  /// Called in the same way after each failed attempt to connect.
  std::function<void(const absl::Status& reason)> on_connect_failed;
};

/// Counters since the start of the client.
struct ClientStats {
  uint64_t calls_sent = 0;     // requests written to a connection
  uint64_t round_trips = 0;    // calls of Call and CallMany that sent something
  uint64_t results = 0;        // answers that contain a result
  uint64_t target_errors = 0;  // answers that contain an error
  uint64_t given_up = 0;       // sent requests whose context ended or connection was lost
  uint64_t late_answers = 0;   // answers to such requests
};

/// A client of one target over a Unix socket. All callers share one connection. Requests are
/// pipelined, and answers are matched by id, in any order. The client's own thread connects,
/// receives and reconnects. A request is written by the caller's thread, which never blocks after
/// its context has ended. Parameters and results are never logged.
class Client final : public Caller {
 public:
  /// Creates a client, which connects in the background. Does not block.
  static std::unique_ptr<Client> Start(ClientOptions options);

  /// Calls Stop(). No call may be in progress on another thread.
  ~Client() override;

  /// Ends all present and future calls with UNAVAILABLE and closes the connection. Idempotent. Must
  /// not be called from on_connect or on_disconnect.
  void Stop();

  std::vector<absl::StatusOr<Json>> CallMany(const base::Context& context,
                                             std::span<const Request> requests) override;
  uint64_t generation() const override;
  bool MayActLate(std::span<const std::string> objects,
                  std::chrono::nanoseconds after_loss) const override;

  bool connected() const;

  /// Waits until the client is connected or `context` ends. Returns OK if it is connected,
  /// CANCELLED if `context` was cancelled, otherwise UNAVAILABLE.
  absl::Status WaitConnected(const base::Context& context);

  ClientStats stats() const;

 private:
  class Impl;
  explicit Client(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sma::jsonrpc
