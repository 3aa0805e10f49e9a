// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/unique_fd.h"
#include "jsonrpc/exchange.h"
#include "jsonrpc/send_queue.h"
#include "jsonrpc/server.h"
#include "jsonrpc/splitter.h"

namespace sma::jsonrpc {

/// One peer of a Server: reads its requests, starts them, writes the answers. Used only on the
/// server's thread.
class ServerConnection : public AnswerSink, public std::enable_shared_from_this<ServerConnection> {
 public:
  /// The interface of the server for its connections.
  class Host {
   public:
    virtual ~Host() = default;
    /// Returns nullptr if there is no such method.
    virtual const Server::Handler* FindHandler(const std::string& method) const = 0;
    /// Called when a request has been answered, because its output or watched events may have
    /// changed.
    virtual void OnChanged(ServerConnection& connection) = 0;
  };

  /// `socket` must be non-blocking. `options` and `host` must live until ReleaseSocket().
  ServerConnection(base::UniqueFd socket, const ServerOptions& options, Host& host);

  /// Reads once, according to the epoll bits `events`, and starts the complete requests for about
  /// ServerOptions::connection_time. Writes only answers that are already waiting.
  void Serve(uint32_t events);

  /// Writes as much as the socket accepts.
  void Flush();

  /// Drops unwritten and later answers. finished() is true afterwards.
  void Close();
  /// Calls Close() and returns the socket, which the caller closes.
  base::UniqueFd ReleaseSocket();

  void Finish(std::string answer) override;

  int fd() const { return socket_.get(); }
  /// Returns the epoll bits to watch.
  uint32_t WantedEvents() const;
  /// Returns true if nothing more can happen, so that the host should remove the connection.
  bool finished() const;
  /// Returns true if no call is in progress and no answer waits to be written.
  bool idle() const { return in_progress_ == 0 && output_.empty(); }
  /// Returns the size of the unwritten answers in memory.
  size_t answer_bytes() const;
  /// Returns true if the peer has accepted none of the waiting answers since `time`.
  bool IsStuckSince(std::chrono::steady_clock::time_point time) const {
    return !output_.empty() && last_progress_ < time;
  }

  uint32_t watched_events = 0;  // used by the host
  bool changed = false;         // used by the host
  uint64_t served_round = 0;    // used by the host: last round in which it was served
  uint64_t used_round = 0;      // used by the host: the last round with any activity

 private:
  void Receive();
  void StartRequests();
  bool StartNext();
  void StartNextOfBatch();
  bool Start(std::string_view text);
  void StartOne(Json value, const std::shared_ptr<AnswerSink>& sink);
  bool full() const;

  base::UniqueFd socket_;
  const ServerOptions& options_;
  Host* host_;  // nullptr when closed
  Splitter input_;
  SendQueue output_;
  std::chrono::steady_clock::time_point
      last_progress_;       // last time at which output_ was sent or was empty
  size_t in_progress_ = 0;  // started and unfinished requests; a batch counts as one
  // A batch in progress: its requests, the number of started ones, and its answers.
  std::vector<Json> batch_;
  size_t batch_started_ = 0;
  std::shared_ptr<BatchSink> batch_sink_;
  bool end_of_input_ = false;
  bool held_back_ = false;  // unstarted requests may be buffered
};

}  // namespace sma::jsonrpc
