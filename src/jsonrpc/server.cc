#include "jsonrpc/server.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
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

using std::chrono::steady_clock;

constexpr int kAcceptsPerPoll = 16;
// While an answer waits to be written, or a listener for descriptors.
constexpr std::chrono::milliseconds kTick{250};

base::UniqueFd Required(int fd, const char* what) {
  if (fd < 0) {
    spdlog::critical("JSON-RPC: {} failed: {}", what, std::strerror(errno));
    std::abort();
  }
  return base::UniqueFd(fd);
}

base::UniqueFd MakeTimer() {
  return Required(::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC), "timerfd_create");
}

// 0: it stands still.
void SetPeriod(const base::UniqueFd& timer, std::chrono::milliseconds period) {
  itimerspec spec{};
  spec.it_value.tv_sec = spec.it_interval.tv_sec = period.count() / 1000;
  spec.it_value.tv_nsec = spec.it_interval.tv_nsec = period.count() % 1000 * 1'000'000;
  ::timerfd_settime(timer.get(), 0, &spec, nullptr);
}

// Where sockets are looked at now and then only, what is there at one look is served at once.
ServerOptions WithPeriod(ServerOptions options) {
  std::chrono::microseconds period(options.poll_period);
  options.round_time = std::max(options.round_time, period);
  options.connection_time = std::max(options.connection_time, period);
  return options;
}

void ReadTimer(const base::UniqueFd& timer) {
  uint64_t ticks;
  if (::read(timer.get(), &ticks, sizeof(ticks)) < 0 && errno != EAGAIN) {
    spdlog::error("JSON-RPC: timer failed: {}", std::strerror(errno));
  }
}

}  // namespace

void Responder::Result(const Json& result) const { exchange_->Result(result); }

void Responder::Error(int code, std::string_view message) const { exchange_->Error(code, message); }

class Server::Impl : public ServerConnection::Host {
 public:
  explicit Impl(ServerOptions options)
      : options_(WithPeriod(options)),
        epoll_(Required(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1")),
        tick_(MakeTimer()) {
    Control(EPOLL_CTL_ADD, tick_.get(), EPOLLIN);
    if (!periodic()) return;
    timer_ = MakeTimer();
    SetPeriod(timer_, options_.poll_period);
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
  base::UniqueFd timer_;  // of poll_period
  base::UniqueFd tick_;
  bool ticking_ = false;
  std::unordered_map<int, std::unique_ptr<UnixListener>> listeners_;
  std::vector<int> paused_listeners_;
  std::unordered_map<int, std::shared_ptr<ServerConnection>> connections_;
  std::vector<ServerConnection*> changed_;  // to be settled at the end of Poll
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
        // A peer that waits keeps the listener ready: looking again at once would keep the loop
        // busy.
        Control(EPOLL_CTL_MOD, listener.fd(), 0);
        paused_listeners_.push_back(listener.fd());
        SetTicking(true);
        return;
    }
  }
}

// Makes room for another connection; false: a call is under way, or an answer waits, on each.
bool Server::Impl::EvictIdle() {
  ServerConnection* oldest = nullptr;
  for (auto& [fd, connection] : connections_) {
    if (!connection->idle() || connection->finished()) continue;
    if (oldest == nullptr || connection->used_round < oldest->used_round) oldest = connection.get();
  }
  if (oldest == nullptr) return false;
  Drop(*oldest, "idle for longest, and others want to connect");
  return true;
}

void Server::Impl::Drop(ServerConnection& connection, std::string_view reason) {
  spdlog::warn("JSON-RPC: connection closed: {}", reason);
  connection.Close();
  Erase(connection);
}

void Server::Impl::Erase(ServerConnection& connection) {
  if (connection.changed) std::erase(changed_, &connection);
  // Whoever answers a request later may keep the connection, but not its socket.
  base::UniqueFd socket = connection.ReleaseSocket();
  connections_.erase(socket.get());
}

void Server::Impl::AddConnection(base::UniqueFd socket) {
  if (connections_.size() >= options_.max_connections && !EvictIdle()) {
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

// Writes what waits, lets the connection go when it is over, and watches for what it wants now.
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

// Peers that ask and do not read must not take all memory.
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
  SetPeriod(tick_, ticking ? kTick : std::chrono::milliseconds(0));
}

void Server::Impl::OnTick() {
  ReadTimer(tick_);
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

// What was answered since the last look is written before new requests are read.
void Server::Impl::StartPeriod() {
  ReadTimer(timer_);
  for (auto& [fd, connection] : connections_) {
    connection->Flush();
    OnChanged(*connection);
  }
}

// False: this one had its turn already, so all others had theirs.
bool Server::Impl::HandleEvent(const epoll_event& event) {
  const int fd = event.data.fd;
  if (fd == tick_.get()) {
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

// The kernel puts a descriptor that stays ready behind the others, so asking for one at a time goes
// round all of them.
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
  // Settling one may drop another.
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
