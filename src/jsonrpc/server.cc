#include "jsonrpc/server.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <map>
#include <unordered_map>
#include <utility>

#include "jsonrpc/exchange.h"
#include "jsonrpc/server_connection.h"
#include "jsonrpc/unix_listener.h"

namespace sma::jsonrpc {
namespace {

constexpr int kEventsPerPoll = 64;
constexpr int kAcceptsPerPoll = 16;

base::UniqueFd Required(int fd, const char* what) {
  if (fd < 0) {
    spdlog::critical("JSON-RPC: {} failed: {}", what, std::strerror(errno));
    std::abort();
  }
  return base::UniqueFd(fd);
}

base::UniqueFd PeriodicTimer(std::chrono::milliseconds period) {
  base::UniqueFd timer =
      Required(::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC), "timerfd_create");
  itimerspec spec{};
  spec.it_value.tv_sec = spec.it_interval.tv_sec = period.count() / 1000;
  spec.it_value.tv_nsec = spec.it_interval.tv_nsec = period.count() % 1000 * 1'000'000;
  ::timerfd_settime(timer.get(), 0, &spec, nullptr);
  return timer;
}

}  // namespace

void Responder::Result(const Json& result) const { exchange_->Result(result); }

void Responder::Error(int code, std::string_view message) const { exchange_->Error(code, message); }

class Server::Impl : public ServerConnection::Host {
 public:
  explicit Impl(ServerOptions options)
      : options_(options), epoll_(Required(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1")) {
    if (periodic()) timer_ = PeriodicTimer(options_.poll_period);
  }

  const Server::Handler* FindHandler(const std::string& method) const override {
    auto found = handlers.find(method);
    return found == handlers.end() ? nullptr : &found->second;
  }

  void OnChanged(ServerConnection& connection) override;

  absl::Status Listen(const std::string& path, mode_t mode);
  void AddConnection(base::UniqueFd socket);
  int fd() const { return periodic() ? timer_.get() : epoll_.get(); }
  void Poll();
  void Stop();
  size_t connection_count() const { return connections_.size(); }

  std::map<std::string, Handler> handlers;

 private:
  bool periodic() const { return options_.poll_period.count() > 0; }
  void AcceptFrom(UnixListener& listener);
  void StartPeriod();
  void Settle(ServerConnection& connection);
  int Control(int operation, int fd, uint32_t events);

  const ServerOptions options_;
  base::UniqueFd epoll_;
  base::UniqueFd timer_;
  std::unordered_map<int, std::unique_ptr<UnixListener>> listeners_;
  std::unordered_map<int, std::shared_ptr<ServerConnection>> connections_;
  std::vector<ServerConnection*> changed_;  // to be settled at the end of Poll
  bool polling_ = false;
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
    base::UniqueFd peer = listener.Accept();
    if (!peer.valid()) return;
    AddConnection(std::move(peer));
  }
}

void Server::Impl::AddConnection(base::UniqueFd socket) {
  if (connections_.size() >= options_.max_connections) {
    spdlog::warn("JSON-RPC: connection refused, {} are open", connections_.size());
    return;
  }
  const int fd = socket.get();
  if (::fcntl(fd, F_SETFL, O_NONBLOCK) != 0 || Control(EPOLL_CTL_ADD, fd, EPOLLIN) != 0) {
    spdlog::error("JSON-RPC: cannot serve a connection: {}", std::strerror(errno));
    return;
  }
  auto connection = std::make_shared<ServerConnection>(std::move(socket), options_, *this);
  connection->watched_events = EPOLLIN;
  connections_.emplace(fd, std::move(connection));
}

void Server::Impl::OnChanged(ServerConnection& connection) {
  if (!polling_) {
    Settle(connection);
  } else if (!std::exchange(connection.changed, true)) {
    changed_.push_back(&connection);
  }
}

// Writes what waits, lets the connection go when it is over, and watches for what it wants now.
void Server::Impl::Settle(ServerConnection& connection) {
  if (!periodic()) connection.Flush();
  if (connection.finished()) {
    // Whoever answers a request later may keep the connection, but not its socket.
    base::UniqueFd socket = connection.ReleaseSocket();
    connections_.erase(socket.get());
    return;
  }
  const uint32_t wanted = connection.WantedEvents();
  if (wanted != connection.watched_events) {
    Control(EPOLL_CTL_MOD, connection.fd(), wanted);
    connection.watched_events = wanted;
  }
}

// What was answered since the last look is written before new requests are read.
void Server::Impl::StartPeriod() {
  uint64_t ticks;
  if (::read(timer_.get(), &ticks, sizeof(ticks)) < 0 && errno != EAGAIN) {
    spdlog::error("JSON-RPC: timer failed: {}", std::strerror(errno));
  }
  for (auto& [fd, connection] : connections_) {
    connection->Flush();
    OnChanged(*connection);
  }
}

void Server::Impl::Poll() {
  polling_ = true;
  if (periodic()) StartPeriod();
  std::array<epoll_event, kEventsPerPoll> events;
  const int count = ::epoll_wait(epoll_.get(), events.data(), kEventsPerPoll, 0);
  for (int i = 0; i < count; ++i) {
    const int fd = events[i].data.fd;
    if (auto listener = listeners_.find(fd); listener != listeners_.end()) {
      AcceptFrom(*listener->second);
    } else if (auto found = connections_.find(fd); found != connections_.end()) {
      ServerConnection& connection = *found->second;
      connection.Serve(events[i].events);
      OnChanged(connection);
    }
  }
  polling_ = false;
  for (ServerConnection* connection : std::exchange(changed_, {})) {
    connection->changed = false;
    Settle(*connection);
  }
}

void Server::Impl::Stop() {
  for (auto& [fd, connection] : connections_) connection->ReleaseSocket();
  connections_.clear();
  listeners_.clear();
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
