#include <fmt/format.h>
#include <poll.h>
#include <pthread.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/peer_user.h"
#include "jsonrpc/client_impl.h"
#include "jsonrpc/message.h"

namespace sma::jsonrpc {
namespace {

using base::MutexLock;
using base::TimePoint;
using std::chrono::steady_clock;

constexpr size_t kReceiveBytes = 64 * 1024;

absl::StatusOr<base::UniqueFd> Connect(const std::string& path, bool trusted_users_only) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) return absl::InvalidArgumentError("path too long");
  std::memcpy(address.sun_path, path.data(), path.size());
  base::UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid() ||
      ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return absl::ErrnoToStatus(errno, "cannot connect");
  }
  if (trusted_users_only) {
    if (absl::Status status = base::CheckPeerUser(fd.get()); !status.ok()) return status;
  }
  return fd;
}

}  // namespace

void Client::Impl::Run() {
  ::pthread_setname_np(::pthread_self(), "jsonrpc-client");
  do {
    absl::StatusOr<base::UniqueFd> socket =
        Connect(options_.socket_path, options_.trusted_users_only);
    if (socket.ok()) {
      Serve(*std::move(socket));
    } else {
      MutexLock lock(mutex_);
      if (last_error_ != socket.status()) {
        spdlog::warn("JSON-RPC: {}: {}", options_.socket_path,
                     std::string(socket.status().message()));
      }
      last_error_ = socket.status();
    }
  } while (PauseBeforeRetry());
}

// False when it is time to stop.
bool Client::Impl::PauseBeforeRetry() {
  std::uniform_real_distribution<double> share(0.5, 1.0);
  const auto pause =
      std::chrono::duration_cast<std::chrono::nanoseconds>(backoff_ * share(random_));
  backoff_ = std::min(2 * backoff_, options_.max_backoff);
  const TimePoint until = steady_clock::now() + pause;
  MutexLock lock(mutex_);
  while (!stopping_ && steady_clock::now() < until) state_changed_.WaitUntil(mutex_, until);
  return !stopping_;
}

void Client::Impl::Serve(base::UniqueFd socket) {
  const int fd = socket.get();
  const uint64_t generation = ++generation_;
  spdlog::info("JSON-RPC: connected to {}", options_.socket_path);
  if (options_.on_connect) options_.on_connect(generation);
  {
    MutexLock lock(mutex_);
    socket_ = std::move(socket);
    connected_ = true;
    state_changed_.NotifyAll();
  }
  absl::Status reason = ServeUntilBroken(fd);
  Disconnect(reason);
  spdlog::warn("JSON-RPC: disconnected from {}: {}", options_.socket_path,
               std::string(reason.message()));
  if (options_.on_disconnect) options_.on_disconnect(generation, reason);
}

absl::Status Client::Impl::ServeUntilBroken(int socket) {
  Splitter input(options_.max_answer_bytes);
  while (true) {
    pollfd fds[2] = {{socket, POLLIN, 0}, {wake_.get(), POLLIN, 0}};
    {
      MutexLock lock(mutex_);
      if (stopping_) return absl::UnavailableError("the client was stopped");
      if (watch_output_) fds[0].events |= POLLOUT;
    }
    if (::poll(fds, 2, -1) < 0) {
      if (errno == EINTR) continue;
      return absl::ErrnoToStatus(errno, "poll");
    }
    if (fds[1].revents != 0) {
      uint64_t count;
      [[maybe_unused]] ssize_t size = ::read(wake_.get(), &count, sizeof(count));
    }
    if ((fds[0].revents & POLLOUT) != 0) {
      MutexLock lock(mutex_);
      Flush();
    }
    if ((fds[0].revents & (POLLIN | POLLHUP | POLLERR)) != 0) {
      if (absl::Status status = Receive(socket, input); !status.ok()) return status;
    }
  }
}

absl::Status Client::Impl::Receive(int socket, Splitter& input) {
  std::span<char> room = input.Prepare(kReceiveBytes);
  const ssize_t count = ::recv(socket, room.data(), room.size(), MSG_DONTWAIT);
  if (count == 0) return absl::UnavailableError("the target closed the connection");
  if (count < 0) {
    if (errno == EAGAIN || errno == EINTR) return absl::OkStatus();
    return absl::UnavailableError(fmt::format("recv: {}", std::strerror(errno)));
  }
  input.Commit(static_cast<size_t>(count));

  std::vector<Answer> answers;
  std::string_view text;
  Splitter::Outcome outcome;
  bool sound = true;
  while (sound && (outcome = input.Next(text)) == Splitter::Outcome::kValue) {
    std::optional<Json> value = Parse(text);
    sound = value && DecodeAnswers(std::move(*value), answers);
  }
  if (!answers.empty()) backoff_ = options_.min_backoff;
  std::vector<CallGroup*> ended;
  {
    MutexLock lock(mutex_);
    sound = calls_.Deliver(answers, next_id_) && sound;
    ended = calls_.TakeEnded();
  }
  for (CallGroup* group : ended) group->ended.Set();
  if (sound && outcome == Splitter::Outcome::kNeedMore) return absl::OkStatus();
  return absl::UnavailableError(sound && outcome == Splitter::Outcome::kTooLarge
                                    ? "the target's answer is too large"
                                    : "the target sent what is no answer");
}

void Client::Impl::Disconnect(const absl::Status& reason) {
  std::vector<CallGroup*> ended;
  {
    MutexLock lock(mutex_);
    connected_ = false;
    watch_output_ = false;
    last_error_ = reason;
    calls_.FailAll(fmt::format("connection to the target at {} lost: {}", options_.socket_path,
                               std::string(reason.message())));
    ended = calls_.TakeEnded();
    socket_.Reset();
  }
  for (CallGroup* group : ended) group->ended.Set();
}

}  // namespace sma::jsonrpc
