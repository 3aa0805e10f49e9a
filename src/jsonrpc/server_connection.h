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

/// One peer of a Server: reads its requests, starts them, writes the answers. In the server's
/// thread only.
class ServerConnection : public AnswerSink, public std::enable_shared_from_this<ServerConnection> {
 public:
  /// What a connection needs of its server.
  class Host {
   public:
    virtual ~Host() = default;
    /// nullptr when there is no such method.
    virtual const Server::Handler* FindHandler(const std::string& method) const = 0;
    /// A request was answered: there may be something to write, or other events to watch for.
    virtual void OnChanged(ServerConnection& connection) = 0;
  };

  /// `socket` must not block. `options` and `host` must live until ReleaseSocket().
  ServerConnection(base::UniqueFd socket, const ServerOptions& options, Host& host);

  /// Reads once, starts what is whole, as the epoll bits `events` say, for about
  /// ServerOptions::connection_time. Writes nothing but what waits already.
  void Serve(uint32_t events);

  /// Writes what the socket takes.
  void Flush();

  /// Drops what waits to be written, and answers that come later. finished() is true then.
  void Close();
  /// Close(). The caller closes the socket.
  base::UniqueFd ReleaseSocket();

  void Finish(std::string answer) override;

  int fd() const { return socket_.get(); }
  /// The epoll bits to watch for.
  uint32_t WantedEvents() const;
  /// True when nothing more can happen: the host should let it go.
  bool finished() const;
  /// No call is under way, and no answer waits to be written.
  bool idle() const { return in_progress_ == 0 && output_.empty(); }
  /// Memory of answers that were not written yet.
  size_t answer_bytes() const;
  /// The peer has taken nothing of what waits to be written since then.
  bool IsStuckSince(std::chrono::steady_clock::time_point time) const {
    return !output_.empty() && last_progress_ < time;
  }

  uint32_t watched_events = 0;  // the host's
  bool changed = false;         // the host's
  uint64_t served_round = 0;    // the host's: the last round in which it had its turn
  uint64_t used_round = 0;      // the host's: the last round in which anything happened

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
  std::chrono::steady_clock::time_point last_progress_;  // of output_
  size_t in_progress_ = 0;  // values started and not finished; a batch counts as one
  // A batch of which not all is started: its requests, how many of them are, its answers.
  std::vector<Json> batch_;
  size_t batch_started_ = 0;
  std::shared_ptr<BatchSink> batch_sink_;
  bool end_of_input_ = false;
  bool held_back_ = false;  // requests may be there that were not started: full(), or out of time
};

}  // namespace sma::jsonrpc
