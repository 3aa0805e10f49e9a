// SPDX-License-Identifier: Apache-2.0

#include "jsonrpc/server_connection.h"

#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <exception>
#include <utility>

#include "base/peer_log.h"

namespace sma::jsonrpc {
namespace {

using std::chrono::steady_clock;

constexpr size_t kReadBytes = 64 * 1024;

}  // namespace

ServerConnection::ServerConnection(base::UniqueFd socket, const ServerOptions& options, Host& host)
    : socket_(std::move(socket)),
      options_(options),
      host_(&host),
      input_(options.max_request_bytes) {}

void ServerConnection::Serve(uint32_t events) {
  if (host_ == nullptr) return;
  if ((events & EPOLLOUT) != 0) Flush();
  const bool gone = (events & (EPOLLHUP | EPOLLERR)) != 0;
  if ((events & EPOLLIN) != 0 && !end_of_input_ && !full()) {
    Receive();
  } else if (gone) {
    Close();
  }
  StartRequests();
  if (gone && end_of_input_) Close();
}

void ServerConnection::Receive() {
  std::span<char> room = input_.Prepare(kReadBytes);
  const ssize_t count = ::recv(fd(), room.data(), room.size(), MSG_DONTWAIT);
  if (count > 0) {
    input_.Commit(static_cast<size_t>(count));
  } else if (count == 0) {
    end_of_input_ = true;
  } else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
    Close();
  }
}

void ServerConnection::StartRequests() {
  const auto until = steady_clock::now() + options_.connection_time;
  held_back_ = false;
  while (host_ != nullptr) {
    if (full()) {
      held_back_ = batch_sink_ != nullptr || input_.pending_bytes() > 0;
      return;
    }
    if (batch_sink_ != nullptr) {
      StartNextOfBatch();
    } else if (!StartNext()) {
      return;
    }
    if (steady_clock::now() >= until) {
      held_back_ = batch_sink_ != nullptr || input_.pending_bytes() > 0;
      return;
    }
  }
}

// Returns false if no complete value has been received, or the connection was closed because of an
// invalid one.
bool ServerConnection::StartNext() {
  std::string_view text;
  Splitter::Outcome outcome = input_.Next(text);
  if (outcome == Splitter::Outcome::kNeedMore) return false;
  if (outcome == Splitter::Outcome::kValue && Start(text)) return true;
  base::LogOfPeers().Log(spdlog::level::warn, "JSON-RPC",
                         "JSON-RPC: connection closed: the peer sent {}",
                         outcome == Splitter::Outcome::kTooLarge ? "a request that is too large"
                                                                 : "bytes that are not JSON");
  Flush();
  Close();
  return false;
}

bool ServerConnection::Start(std::string_view text) {
  std::optional<Json> value = Parse(text);
  if (!value) return false;
  ++in_progress_;
  if (!value->is_array()) {
    StartOne(std::move(*value), shared_from_this());
  } else if (value->empty()) {
    Finish(ErrorAnswer(Json(), kInvalidRequest, "Invalid request"));
  } else {
    batch_ = std::move(value->get_ref<Json::array_t&>());
    batch_started_ = 0;
    batch_sink_ = std::make_shared<BatchSink>(batch_.size(), shared_from_this());
  }
  return true;
}

void ServerConnection::StartNextOfBatch() {
  std::shared_ptr<BatchSink> sink = batch_sink_;
  Json element = std::move(batch_[batch_started_++]);
  if (batch_started_ == batch_.size()) {
    batch_.clear();
    batch_sink_.reset();
  }
  if (sink->size_bytes() <= options_.max_batch_answer_bytes) {
    return StartOne(std::move(element), sink);
  }
  IncomingRequest request = DecodeRequest(std::move(element));
  bool answered = !request.valid || !request.id.is_null();
  sink->Finish(answered ? ErrorAnswer(request.id, kInternalError,
                                      "Not run: the answers of the batch are too large")
                        : "");
}

void ServerConnection::StartOne(Json value, const std::shared_ptr<AnswerSink>& sink) {
  IncomingRequest request = DecodeRequest(std::move(value));
  if (!request.valid) {
    sink->Finish(ErrorAnswer(request.id, kInvalidRequest, "Invalid request"));
    return;
  }
  Responder responder(std::make_shared<Exchange>(std::move(request.id), sink));
  const Server::Handler* handler = host_ != nullptr ? host_->FindHandler(request.method) : nullptr;
  if (handler == nullptr) {
    responder.Error(kMethodNotFound, "Method not found");
    return;
  }
  try {
    (*handler)(request.params, std::move(responder));
  } catch (const std::exception& e) {
    // The responder was destroyed with the handler, which has answered -32603.
    base::LogOfPeers().Log(spdlog::level::err, "JSON-RPC", "JSON-RPC: handler of {} failed: {}",
                           request.method, e.what());
  }
}

void ServerConnection::Finish(std::string answer) {
  --in_progress_;
  if (host_ == nullptr) return;
  if (output_.empty()) last_progress_ = steady_clock::now();
  if (!answer.empty()) output_.Push(std::move(answer) + '\n');
  host_->OnChanged(*this);
}

void ServerConnection::Flush() {
  if (host_ == nullptr || output_.empty()) return;
  const size_t before = output_.size_bytes();
  if (output_.Flush(fd()) != 0) Close();
  if (output_.size_bytes() < before) last_progress_ = steady_clock::now();
}

void ServerConnection::Close() {
  host_ = nullptr;
  output_.Clear();
  batch_.clear();
  batch_sink_.reset();  // refers to this object
}

size_t ServerConnection::answer_bytes() const {
  return output_.size_bytes() + (batch_sink_ != nullptr ? batch_sink_->size_bytes() : 0);
}

base::UniqueFd ServerConnection::ReleaseSocket() {
  Close();
  return std::move(socket_);
}

uint32_t ServerConnection::WantedEvents() const {
  uint32_t events = 0;
  if (!end_of_input_ && !full()) events |= EPOLLIN;
  // A writable socket also wakes the loop to continue with requests that were held back.
  if (!output_.empty() || (held_back_ && !full())) events |= EPOLLOUT;
  return events;
}

bool ServerConnection::finished() const {
  if (host_ == nullptr) return true;
  return end_of_input_ && in_progress_ == 0 && output_.empty() && !held_back_;
}

bool ServerConnection::full() const {
  return output_.size_bytes() > options_.max_queued_answer_bytes ||
         (batch_sink_ == nullptr && in_progress_ >= options_.max_requests_in_progress);
}

}  // namespace sma::jsonrpc
