// SPDX-License-Identifier: Apache-2.0

#include "jsonrpc/server.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <map>
#include <optional>
#include <unordered_map>
#include <utility>

#include "base/peer_log.h"
#include "jsonrpc/exchange.h"
#include "jsonrpc/periodic_timer.h"
#include "jsonrpc/server_connection.h"
#include "jsonrpc/unix_listener.h"

namespace sma::jsonrpc {
namespace {

using std::chrono::steady_clock;

constexpr int kAcceptsPerPoll = 16;
// The interval at which send timeouts and the available descriptors are checked, if there are
// unwritten answers or a listener waits for a descriptor.
constexpr std::chrono::milliseconds kTick{250};

base::UniqueFd MakeEpoll() {
  base::UniqueFd fd(::epoll_create1(EPOLL_CLOEXEC));
  if (!fd) {
    spdlog::critical("JSON-RPC: epoll_create1 failed: {}", std::strerror(errno));
    std::abort();
  }
  return fd;
}

// If there is a poll period, everything that is ready in a poll is served in that poll.
ServerOptions WithPeriod(ServerOptions options) {
  std::chrono::microseconds period(options.poll_period);
  options.round_time = std::max(options.round_time, period);
  options.connection_time = std::max(options.connection_time, period);
  return options;
}

}  // namespace

void Responder::Result(const Json& result) const { exchange_->Result(result); }

void Responder::Error(int code, std::string_view message) const { exchange_->Error(code, message); }

class Server::Impl : public ServerConnection::Host {
 public:
  explicit Impl(ServerOptions options) : options_(WithPeriod(options)), epoll_(MakeEpoll()) {
    Control(EPOLL_CTL_ADD, tick_.fd(), EPOLLIN);
    if (periodic()) timer_.emplace().SetPeriod(options_.poll_period);
  }

  const Server::Handler* FindHandler(const std::string& method) const override {
    auto found = handlers.find(method);
    return found == handlers.end() ? nullptr : &found->second;
  }

  void OnChanged(ServerConnection& connection) override;

  absl::Status Listen(const std::string& path, mode_t mode);
  void AddConnection(base::UniqueFd socket);
  int fd() const { return timer_ ? timer_->fd() : epoll_.get(); }
  void Poll();
  void Stop();
  size_t connection_count() const { return connections_.size(); }

  std::map<std::string, Handler> handlers;

 private:
  bool periodic() const { return options_.poll_period.count() > 0; }
  bool HandleEvent(const epoll_event& event);
  void AcceptFrom(UnixListener& listener);
  bool EvictIdle();
  void StartPeriod();
  void Settle(ServerConnection& connection);
  void Erase(ServerConnection& connection);
  void Drop(ServerConnection& connection, std::string_view reason);
  void LimitAnswers();
  void SetTicking(bool ticking);
  void OnTick();
  int Control(int operation, int fd, uint32_t events);

  const ServerOptions options_;
  base::UniqueFd epoll_;
  std::optional<PeriodicTimer> timer_;  // for poll_period
  PeriodicTimer tick_;
  bool ticking_ = false;
  std::unordered_map<int, std::unique_ptr<UnixListener>> listeners_;
  std::vector<int> paused_listeners_;
  std::unordered_map<int, std::shared_ptr<ServerConnection>> connections_;
  std::vector<ServerConnection*> changed_;  // connections for which Poll calls Settle at its end
  bool polling_ = false;
  uint64_t round_ = 1;
};

int Server::Impl::Control(int operation, int fd, uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.fd = fd;
  return ::epoll_ctl(epoll_.get(), operation, fd, &event);
}

absl::Status Server::Impl::Listen(const std::string& path, mode_t mode) {
  absl::StatusOr<std::unique_ptr<UnixListener>> listener = UnixListener::Open(path, mode);
  if (!listener.ok()) return listener.status();
  const int fd = (*listener)->fd();
  if (Control(EPOLL_CTL_ADD, fd, EPOLLIN) != 0) return absl::ErrnoToStatus(errno, path);
  listeners_[fd] = *std::move(listener);
  return absl::OkStatus();
}

void Server::Impl::AcceptFrom(UnixListener& listener) {
  for (int i = 0; i < kAcceptsPerPoll; ++i) {
    base::UniqueFd peer;
    switch (listener.Accept(peer)) {
      case UnixListener::Outcome::kAccepted:
        AddConnection(std::move(peer));
        break;
      case UnixListener::Outcome::kNobody:
        return;
      case UnixListener::Outcome::kNoDescriptors:
        if (EvictIdle() || listener.DropPeer()) break;
        [[fallthrough]];
      case UnixListener::Outcome::kFailed:
        // A waiting peer keeps the listener readable; without a pause, the event loop would never
        // be idle.
        Control(EPOLL_CTL_MOD, listener.fd(), 0);
        paused_listeners_.push_back(listener.fd());
        SetTicking(true);
        return;
    }
  }
}

// Closes the connection that has been idle longest. Returns false if every connection has a call in
// progress or unwritten answers.
bool Server::Impl::EvictIdle() {
  ServerConnection* oldest = nullptr;
  for (auto& [fd, connection] : connections_) {
    if (!connection->idle() || connection->finished()) continue;
    if (oldest == nullptr || connection->used_round < oldest->used_round) oldest = connection.get();
  }
  if (oldest == nullptr) return false;
  Drop(*oldest, "idle longest, replaced by a new connection");
  return true;
}

void Server::Impl::Drop(ServerConnection& connection, std::string_view reason) {
  base::LogOfPeers().Log(spdlog::level::warn, "JSON-RPC", "JSON-RPC: connection closed: {}",
                         reason);
  connection.Close();
  Erase(connection);
}

void Server::Impl::Erase(ServerConnection& connection) {
  if (connection.changed) std::erase(changed_, &connection);
  // A responder may keep the connection object for a late answer, but must not keep its socket.
  base::UniqueFd socket = connection.ReleaseSocket();
  connections_.erase(socket.get());
}

void Server::Impl::AddConnection(base::UniqueFd socket) {
  if (connections_.size() >= options_.max_connections && !EvictIdle()) {
    base::LogOfPeers().Log(spdlog::level::warn, "JSON-RPC",
                           "JSON-RPC: connection refused, {} are open", connections_.size());
    return;
  }
  const int fd = socket.get();
  if (::fcntl(fd, F_SETFL, O_NONBLOCK) != 0 || Control(EPOLL_CTL_ADD, fd, EPOLLIN) != 0) {
    base::LogOfPeers().Log(spdlog::level::err, "JSON-RPC",
                           "JSON-RPC: cannot serve a connection: {}", std::strerror(errno));
    return;
  }
  auto connection = std::make_shared<ServerConnection>(std::move(socket), options_, *this);
  connection->watched_events = EPOLLIN;
  connection->used_round = round_;
  connections_.emplace(fd, std::move(connection));
}

void Server::Impl::OnChanged(ServerConnection& connection) {
  if (!polling_) {
    Settle(connection);
  } else if (!std::exchange(connection.changed, true)) {
    changed_.push_back(&connection);
  }
}

// Writes waiting answers, then removes the connection if it is finished, otherwise updates its
// watched events.
void Server::Impl::Settle(ServerConnection& connection) {
  connection.used_round = round_;
  if (!periodic()) connection.Flush();
  if (connection.finished()) return Erase(connection);
  const uint32_t wanted = connection.WantedEvents();
  if (wanted != connection.watched_events) {
    Control(EPOLL_CTL_MOD, connection.fd(), wanted);
    connection.watched_events = wanted;
  }
  if (connection.answer_bytes() == 0) return;
  SetTicking(true);
  LimitAnswers();
}

// Limits the memory used by peers that send requests but do not read the answers.
void Server::Impl::LimitAnswers() {
  size_t total = 0;
  ServerConnection* largest = nullptr;
  for (auto& [fd, connection] : connections_) {
    total += connection->answer_bytes();
    if (largest == nullptr || connection->answer_bytes() > largest->answer_bytes())
      largest = connection.get();
  }
  if (total > options_.max_total_answer_bytes) Drop(*largest, "its peer does not read the answers");
}

void Server::Impl::SetTicking(bool ticking) {
  if (ticking_ == ticking) return;
  ticking_ = ticking;
  tick_.SetPeriod(ticking ? kTick : std::chrono::milliseconds(0));
}

void Server::Impl::OnTick() {
  tick_.Acknowledge();
  for (int fd : std::exchange(paused_listeners_, {})) Control(EPOLL_CTL_MOD, fd, EPOLLIN);
  const auto since = steady_clock::now() - options_.send_timeout;
  bool waiting = false;
  std::vector<ServerConnection*> stuck;
  for (auto& [fd, connection] : connections_) {
    waiting |= connection->answer_bytes() > 0;
    if (connection->IsStuckSince(since)) stuck.push_back(connection.get());
  }
  for (ServerConnection* connection : stuck)
    Drop(*connection, "its peer does not read the answers");
  SetTicking(waiting);
}

// Writes the answers of the previous period before new requests are read.
void Server::Impl::StartPeriod() {
  timer_->Acknowledge();
  for (auto& [fd, connection] : connections_) {
    connection->Flush();
    OnChanged(*connection);
  }
}

// Returns false if this connection was already served in this round, which means that all others
// have been served as well.
bool Server::Impl::HandleEvent(const epoll_event& event) {
  const int fd = event.data.fd;
  if (fd == tick_.fd()) {
    OnTick();
  } else if (auto listener = listeners_.find(fd); listener != listeners_.end()) {
    AcceptFrom(*listener->second);
  } else if (auto found = connections_.find(fd); found != connections_.end()) {
    ServerConnection& connection = *found->second;
    if (std::exchange(connection.served_round, round_) == round_) return false;
    connection.Serve(event.events);
    OnChanged(connection);
  }
  return true;
}

// The kernel moves a descriptor that remains ready behind the others, so retrieving one event at a
// time serves all of them in turn.
void Server::Impl::Poll() {
  polling_ = true;
  ++round_;
  if (periodic()) StartPeriod();
  const auto until = steady_clock::now() + options_.round_time;
  epoll_event event;
  while (::epoll_wait(epoll_.get(), &event, 1, 0) == 1) {
    if (!HandleEvent(event) || steady_clock::now() >= until) break;
  }
  polling_ = false;
  // Settling one connection may remove another one from the list.
  while (!changed_.empty()) {
    ServerConnection* connection = changed_.back();
    changed_.pop_back();
    connection->changed = false;
    Settle(*connection);
  }
}

void Server::Impl::Stop() {
  for (auto& [fd, connection] : connections_) connection->ReleaseSocket();
  connections_.clear();
  changed_.clear();
  listeners_.clear();
  paused_listeners_.clear();
}

Server::Server(ServerOptions options) : impl_(std::make_unique<Impl>(options)) {}
Server::~Server() { Stop(); }

void Server::Register(std::string method, Handler handler) {
  impl_->handlers[std::move(method)] = std::move(handler);
}

std::vector<std::string> Server::methods() const {
  std::vector<std::string> names;
  for (const auto& [name, handler] : impl_->handlers) names.push_back(name);
  return names;
}

absl::Status Server::Listen(const std::string& path, mode_t mode) {
  return impl_->Listen(path, mode);
}

void Server::AddConnection(base::UniqueFd socket) { impl_->AddConnection(std::move(socket)); }
int Server::fd() const { return impl_->fd(); }
void Server::Poll() { impl_->Poll(); }
void Server::Stop() { impl_->Stop(); }
size_t Server::connection_count() const { return impl_->connection_count(); }

}  // namespace sma::jsonrpc
