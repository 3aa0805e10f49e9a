// SPDX-License-Identifier: Apache-2.0

#include "agent/qmp/client.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "jsonrpc/error.h"

namespace sma::qmp {

using base::Context;
using base::MutexLock;
using base::TimePoint;
using std::chrono::steady_clock;

Client::Client(ClientOptions options)
    : options_(std::move(options)),
      wake_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)),
      thread_([this] { Run(); }) {}

Client::~Client() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  Wake();
  thread_.join();
}

void Client::Wake() {
  const uint64_t one = 1;
  // Fails only if a wake-up is already pending.
  [[maybe_unused]] ssize_t written = ::write(wake_.get(), &one, sizeof(one));
}

void Client::NotifyAll() {
  MutexLock lock(mutex_);
  changed_.NotifyAll();
}

void Client::Enter() {
  MutexLock lock(mutex_);
  ++users_;
  changed_.NotifyAll();
}

void Client::Leave() {
  {
    MutexLock lock(mutex_);
    --users_;
  }
  Wake();
}

absl::Status Client::WaitForSession(const Context& context) {
  const TimePoint now = steady_clock::now();
  if (now < mute_until_) {
    return absl::UnavailableError(
        fmt::format("QEMU at {} does not answer commands", options_.address.ToString()));
  }
  const TimePoint until = std::min(context.deadline(), now + options_.connect_wait);
  while (!connected_) {
    if (absl::Status status = context.status(); absl::IsCancelled(status)) return status;
    if (stopping_) return absl::UnavailableError("the client was stopped");
    if (steady_clock::now() >= until) {
      return absl::UnavailableError(fmt::format("no QMP session with QEMU at {}: {}",
                                                options_.address.ToString(),
                                                std::string(last_error_.message())));
    }
    changed_.WaitUntil(mutex_, until);
  }
  return absl::OkStatus();
}

absl::StatusOr<Greeting> Client::WaitConnected(const Context& context) {
  if (absl::Status status = context.status(); !status.ok()) return status;
  Enter();
  const uint64_t callback = context.AddCallback([this] { NotifyAll(); });
  absl::StatusOr<Greeting> greeting;
  {
    MutexLock lock(mutex_);
    absl::Status status = WaitForSession(context);
    if (status.ok()) {
      greeting = greeting_;
    } else {
      greeting = status;
    }
  }
  context.RemoveCallback(callback);
  Leave();
  return greeting;
}

absl::StatusOr<Json> Client::Execute(const Context& context, Command command) {
  return std::move(ExecuteMany(context, {&command, 1}).front());
}

std::vector<absl::StatusOr<Json>> Client::ExecuteMany(const Context& context,
                                                      std::span<const Command> commands) {
  if (absl::Status status = context.status(); !status.ok()) {
    return std::vector<absl::StatusOr<Json>>(commands.size(), status);
  }
  Call call{.commands = commands, .results = {}};
  call.results.resize(commands.size());
  Enter();
  const uint64_t callback = context.AddCallback([this] { NotifyAll(); });
  {
    MutexLock lock(mutex_);
    if (absl::Status status = WaitForSession(context); !status.ok()) {
      std::fill(call.results.begin(), call.results.end(), status);
    } else {
      Send(call);
      Await(context, call);
    }
  }
  context.RemoveCallback(callback);
  Leave();
  return std::move(call.results);
}

void Client::Send(Call& call) {
  std::string text;
  for (size_t i = 0; i < call.commands.size(); ++i) {
    const uint64_t id = next_id_++;
    text += Encode(call.commands[i], id);
    pending_[id] = {&call, i};
    ++call.open;
  }
  // If the socket's buffer is full, QEMU has stopped reading its commands. The thread sees the end
  // of the connection and ends the calls.
  const ssize_t sent = ::send(socket_.get(), text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent != static_cast<ssize_t>(text.size())) ::shutdown(socket_.get(), SHUT_RDWR);
}

void Client::Await(const Context& context, Call& call) {
  TimePoint mute_at = steady_clock::now() + options_.answer_wait;
  while (call.open > 0) {
    if (absl::Status status = context.status(); !status.ok()) return GiveUp(call, status);
    // QEMU executes commands in order, so only the oldest call can show that QEMU does not answer.
    if (pending_.begin()->second.call != &call)
      mute_at = steady_clock::now() + options_.answer_wait;
    if (steady_clock::now() >= mute_at) {
      MarkMute();
      return GiveUp(call, absl::UnavailableError(fmt::format("QEMU at {} does not answer commands",
                                                             options_.address.ToString())));
    }
    changed_.WaitUntil(mutex_, std::min(context.deadline(), mute_at));
  }
}

void Client::GiveUp(Call& call, const absl::Status& reason) {
  std::erase_if(pending_, [&](const auto& entry) {
    if (entry.second.call != &call) return false;
    call.results[entry.second.index] = jsonrpc::WithFateUnknown(reason);
    return true;
  });
}

void Client::MarkMute() {
  const TimePoint now = steady_clock::now();
  mute_pause_ = std::clamp<std::chrono::nanoseconds>(2 * mute_pause_, options_.mute_pause,
                                                     options_.max_mute_pause);
  mute_until_ = now + mute_pause_;
  if (!unreachable_since_) unreachable_since_ = now;
  spdlog::warn("QMP: {}: QEMU does not answer commands", options_.address.ToString());
  // The thread sees the end of the connection and ends the other calls.
  ::shutdown(socket_.get(), SHUT_RDWR);
}

void Client::End(uint64_t id, absl::StatusOr<Json> result) {
  auto found = pending_.find(id);
  if (found == pending_.end()) return;  // the caller no longer waits
  Call& call = *found->second.call;
  call.results[found->second.index] = std::move(result);
  --call.open;
  pending_.erase(found);
  changed_.NotifyAll();
}

std::optional<TimePoint> Client::unreachable_since() const {
  MutexLock lock(mutex_);
  return unreachable_since_;
}

std::optional<TimePoint> Client::gone_since() const {
  MutexLock lock(mutex_);
  return gone_since_;
}

Client::EventWatch::EventWatch(Client& client, std::set<std::string> names)
    : client_(client), names_(std::move(names)) {
  client_.Enter();
  MutexLock lock(client_.mutex_);
  client_.watches_.insert(this);
}

Client::EventWatch::~EventWatch() {
  {
    MutexLock lock(client_.mutex_);
    client_.watches_.erase(this);
  }
  client_.Leave();
}

absl::StatusOr<Event> Client::EventWatch::Next(const Context& context) {
  const uint64_t callback = context.AddCallback([this] { client_.NotifyAll(); });
  absl::StatusOr<Event> event;
  {
    MutexLock lock(client_.mutex_);
    absl::Status status = context.status();
    while (events_.empty() && !lost_ && status.ok()) {
      client_.changed_.WaitUntil(client_.mutex_, context.deadline());
      status = context.status();
    }
    if (!events_.empty()) {
      event = std::move(events_.front());
      events_.pop_front();
    } else {
      event = lost_ ? absl::UnavailableError("the QMP session was lost") : status;
    }
  }
  context.RemoveCallback(callback);
  return event;
}

}  // namespace sma::qmp
