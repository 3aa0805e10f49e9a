// SPDX-License-Identifier: Apache-2.0

// The client's own thread: connects, receives, and closes idle sessions.

#include <fmt/format.h>
#include <poll.h>
#include <pthread.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "agent/qmp/client.h"
#include "jsonrpc/error.h"

namespace sma::qmp {

using base::MutexLock;
using base::TimePoint;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

namespace {

constexpr size_t kReceiveBytes = 64 * 1024;
constexpr size_t kMaxKeptEvents = 4096;
constexpr uint64_t kNegotiationId = 0;  // callers' ids start at 1

// Returns the timeout for poll(2), or -1 for no timeout.
int MillisecondsUntil(TimePoint until) {
  if (until == TimePoint::max()) return -1;
  const auto left = std::chrono::ceil<milliseconds>(until - steady_clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, 60'000));
}

}  // namespace

void Client::Run() {
  ::pthread_setname_np(::pthread_self(), "qmp-client");
  while (WaitForUser()) {
    auto socket =
        Connect(options_.address, steady_clock::now() + options_.greeting_wait, wake_.get());
    const bool is_gone = absl::IsNotFound(socket.status());
    const absl::Status ended = socket.ok() ? Serve(*std::move(socket)) : socket.status();
    if (!ended.ok()) {
      RecordFailure(ended, is_gone);
      Pause();
    }
  }
}

// Returns false if the client is stopping.
bool Client::WaitForUser() {
  // Only resets the eventfd; the state whose change it signals is read below.
  uint64_t count;
  [[maybe_unused]] ssize_t size = ::read(wake_.get(), &count, sizeof(count));
  MutexLock lock(mutex_);
  while (!stopping_ && users_ == 0) changed_.Wait(mutex_);
  return !stopping_;
}

void Client::Pause() {
  const TimePoint until = steady_clock::now() + options_.retry_pause;
  MutexLock lock(mutex_);
  while (!stopping_ && steady_clock::now() < until) changed_.WaitUntil(mutex_, until);
}

void Client::RecordFailure(const absl::Status& reason, bool is_gone) {
  if (absl::IsCancelled(reason)) return;
  MutexLock lock(mutex_);
  if (last_error_ != reason && !stopping_) {
    spdlog::warn("QMP: {}: {}", options_.address.ToString(), std::string(reason.message()));
  }
  last_error_ = reason;
  if (!unreachable_since_) unreachable_since_ = steady_clock::now();
  if (!is_gone) {
    gone_since_.reset();
  } else if (!gone_since_) {
    gone_since_ = steady_clock::now();
  }
}

// Returns OK if the session was closed because it was idle.
absl::Status Client::Serve(base::UniqueFd socket) {
  const int fd = socket.get();
  {
    MutexLock lock(mutex_);
    socket_ = std::move(socket);
    gone_since_.reset();
  }
  absl::Status ended = ServeUntilEnd(fd);
  Disconnect(ended);
  return ended;
}

absl::Status Client::ServeUntilEnd(int socket) {
  jsonrpc::Splitter input(options_.max_message_bytes);
  Stage stage = Stage::kGreeting;
  const TimePoint ready_by = steady_clock::now() + options_.greeting_wait;
  while (true) {
    TimePoint until = ready_by;
    if (stage == Stage::kReady) {
      MutexLock lock(mutex_);
      until = users_ > 0 ? TimePoint::max() : steady_clock::now() + options_.idle_time;
    }
    pollfd fds[2] = {{socket, POLLIN, 0}, {wake_.get(), POLLIN, 0}};
    const int ready = ::poll(fds, 2, MillisecondsUntil(until));
    if (ready < 0 && errno != EINTR) return absl::ErrnoToStatus(errno, "poll");
    if (fds[1].revents != 0) {
      uint64_t count;
      [[maybe_unused]] ssize_t size = ::read(wake_.get(), &count, sizeof(count));
      MutexLock lock(mutex_);
      if (stopping_) return absl::CancelledError("the client was stopped");
    }
    if (fds[0].revents != 0) {
      if (absl::Status status = Receive(socket, input, stage); !status.ok()) return status;
    }
    if (stage != Stage::kReady && steady_clock::now() >= ready_by) {
      return absl::UnavailableError("no greeting; QEMU may be serving another client");
    }
    if (ready == 0 && stage == Stage::kReady && EndWhenIdle()) return absl::OkStatus();
  }
}

// Checks for users and closes the session atomically: a later user waits for a new session.
bool Client::EndWhenIdle() {
  MutexLock lock(mutex_);
  if (users_ > 0) return false;
  connected_ = false;
  return true;
}

absl::Status Client::Receive(int socket, jsonrpc::Splitter& input, Stage& stage) {
  std::span<char> room = input.Prepare(kReceiveBytes);
  const ssize_t count = ::recv(socket, room.data(), room.size(), MSG_DONTWAIT);
  if (count == 0) return absl::UnavailableError("QEMU closed the connection");
  if (count < 0) {
    if (errno == EAGAIN || errno == EINTR) return absl::OkStatus();
    return absl::UnavailableError(fmt::format("recv: {}", std::strerror(errno)));
  }
  input.Commit(static_cast<size_t>(count));
  MutexLock lock(mutex_);
  std::string_view text;
  jsonrpc::Splitter::Outcome outcome;
  while ((outcome = input.Next(text)) == jsonrpc::Splitter::Outcome::kValue) {
    std::optional<Json> value = jsonrpc::Parse(text);
    std::optional<Message> message;
    if (value) message = Decode(*std::move(value));
    if (!message) return absl::UnavailableError("invalid QMP message");
    if (absl::Status status = Take(*std::move(message), stage); !status.ok()) return status;
  }
  if (outcome == jsonrpc::Splitter::Outcome::kNeedMore) return absl::OkStatus();
  return absl::UnavailableError("invalid or too large QMP message");
}

absl::Status Client::Take(Message message, Stage& stage) {
  if (auto* greeting = std::get_if<Greeting>(&message)) {
    if (stage != Stage::kGreeting) return absl::UnavailableError("second greeting");
    greeting_ = *greeting;
    const std::string text = Encode({"qmp_capabilities", nullptr}, kNegotiationId);
    const ssize_t sent =
        ::send(socket_.get(), text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent != static_cast<ssize_t>(text.size())) {
      return absl::UnavailableError("QEMU does not read commands");
    }
    stage = Stage::kNegotiation;
  } else if (auto* event = std::get_if<Event>(&message)) {
    TakeEvent(*event);
  } else if (auto& answer = std::get<Answer>(message); answer.id == kNegotiationId) {
    if (stage != Stage::kNegotiation || answer.error) {
      return absl::UnavailableError("QEMU refused qmp_capabilities");
    }
    stage = Stage::kReady;
    connected_ = true;
    // A mute QEMU negotiates as well, so success here does not end the pause.
    if (mute_pause_ == std::chrono::nanoseconds(0)) unreachable_since_.reset();
    last_error_ = absl::OkStatus();
    changed_.NotifyAll();
  } else if (auto found = pending_.find(answer.id); found != pending_.end()) {
    const std::string& name = found->second.call->commands[found->second.index].name;
    mute_pause_ = std::chrono::nanoseconds(0);
    unreachable_since_.reset();
    if (answer.error) {
      End(answer.id, ErrorStatus(name, *answer.error));
    } else {
      End(answer.id, std::move(answer.result));
    }
  }
  return absl::OkStatus();
}

void Client::TakeEvent(const Event& event) {
  spdlog::debug("QMP: {}: event {}", options_.address.ToString(), event.name);
  for (EventWatch* watch : watches_) {
    if (!watch->names_.contains(event.name)) continue;
    if (watch->events_.size() < kMaxKeptEvents) {
      watch->events_.push_back(event);
    } else {
      watch->lost_ = true;
    }
  }
  changed_.NotifyAll();
}

void Client::Disconnect(const absl::Status& reason) {
  MutexLock lock(mutex_);
  connected_ = false;
  socket_.Reset();
  const absl::Status lost = jsonrpc::WithFateUnknown(absl::UnavailableError(
      fmt::format("QMP session with QEMU at {} lost: {}", options_.address.ToString(),
                  std::string(reason.message()))));
  while (!pending_.empty()) End(pending_.begin()->first, lost);
  if (!reason.ok()) {
    for (EventWatch* watch : watches_) watch->lost_ = true;
  }
  changed_.NotifyAll();
}

}  // namespace sma::qmp
