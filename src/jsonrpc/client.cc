// SPDX-License-Identifier: Apache-2.0

#include "jsonrpc/client.h"

#include <fmt/format.h>
#include <poll.h>
#include <pthread.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/peer_user.h"
#include "jsonrpc/call_scope.h"
#include "jsonrpc/client_impl.h"
#include "jsonrpc/message.h"

namespace sma::jsonrpc {
namespace {

using base::MutexLock;
using base::TimePoint;
using std::chrono::steady_clock;

TimePoint After(std::chrono::nanoseconds wait) {
  const TimePoint now = steady_clock::now();
  return wait >= TimePoint::max() - now ? TimePoint::max() : now + wait;
}

constexpr size_t kReceiveBytes = 64 * 1024;

absl::StatusOr<base::UniqueFd> Connect(const std::string& path, bool trusted_users_only) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path))
    return absl::InvalidArgumentError("socket path too long");
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

Client::Impl::Impl(ClientOptions options)
    : options_(std::move(options)), wake_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}

void Client::Impl::Wake() {
  const uint64_t one = 1;
  // Fails only if a wake-up is already pending.
  [[maybe_unused]] ssize_t written = ::write(wake_.get(), &one, sizeof(one));
}

void Client::Impl::Stop() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    state_changed_.NotifyAll();
  }
  Wake();
  if (thread_.joinable()) thread_.join();
}

std::vector<absl::StatusOr<Json>> Client::Impl::CallMany(const base::Context& context,
                                                         std::span<const Request> requests) {
  if (requests.empty()) return {};
  CallGroup group;
  group.requests = requests;
  group.objects = CallScope::Current();
  group.first_id = next_id_.fetch_add(requests.size());
  auto none_sent = [&](const absl::Status& status) {
    return std::vector<absl::StatusOr<Json>>(requests.size(), status);
  };
  absl::StatusOr<EncodedRequests> encoded =
      EncodeRequests(requests, group.first_id, {options_.max_request_bytes, options_.use_batches});
  if (!encoded.ok()) return none_sent(encoded.status());
  group.ends = std::move(encoded->ends);

  const TimePoint start = steady_clock::now();
  const uint64_t callback = context.AddCallback([this, &group] {
    group.ended.Poke();
    MutexLock lock(mutex_);
    state_changed_.NotifyAll();
  });
  absl::Status sent = Send(context, std::move(encoded->text), group);
  if (sent.ok()) Await(context, group);
  context.RemoveCallback(callback);
  if (!sent.ok()) return none_sent(sent);

  if (spdlog::should_log(spdlog::level::debug)) {
    for (size_t i = 0; i < requests.size(); ++i) {
      spdlog::debug("JSON-RPC {} id {}: {} after {} us", requests[i].method, group.first_id + i,
                    absl::StatusCodeToString(group.results[i].status().code()),
                    (group.ended_at[i] - start) / std::chrono::microseconds(1));
    }
  }
  return std::move(group.results);
}

absl::Status Client::Impl::WaitConnected(const base::Context& context) {
  const uint64_t callback = context.AddCallback([this] {
    MutexLock lock(mutex_);
    state_changed_.NotifyAll();
  });
  absl::Status status;
  {
    MutexLock lock(mutex_);
    status = WaitForConnection(context, TimePoint::max());
  }
  context.RemoveCallback(callback);
  return status;
}

absl::Status Client::Impl::WaitForConnection(const base::Context& context, TimePoint until) {
  until = std::min(until, context.deadline());
  while (!stopping_ && !connected_) {
    absl::Status status = context.status();
    if (absl::IsCancelled(status)) return status;
    if (steady_clock::now() >= until) {
      return absl::UnavailableError(fmt::format("no connection to the target at {}: {}",
                                                options_.socket_path,
                                                std::string(last_error_.message())));
    }
    state_changed_.WaitUntil(mutex_, until);
  }
  return stopping_ ? absl::UnavailableError("the client was stopped") : absl::OkStatus();
}

absl::Status Client::Impl::Send(const base::Context& context, std::string text, CallGroup& group) {
  if (absl::Status status = context.status(); !status.ok()) return status;
  MutexLock lock(mutex_);
  absl::Status status = WaitForConnection(context, After(options_.connect_wait));
  if (!status.ok()) return status;
  calls_.Add(group, std::move(text));
  if (!watch_output_) Flush();
  return absl::OkStatus();
}

void Client::Impl::Await(const base::Context& context, CallGroup& group) {
  while (!group.ended.WaitOnce(context.deadline())) {
    absl::Status status = context.status();
    if (status.ok()) continue;
    {
      MutexLock lock(mutex_);
      if (calls_.GiveUp(group, status)) return;
    }
    // All answers have arrived in the meantime; the client's thread is about to set the event.
    return group.ended.Wait();
  }
}

// The client's thread handles a broken connection, after it has read the remaining answers.
void Client::Impl::Flush() {
  if (calls_.Flush(socket_.get()) != 0) {
    ::shutdown(socket_.get(), SHUT_RDWR);
    watch_output_ = false;
    return;
  }
  const bool watched = std::exchange(watch_output_, calls_.has_output());
  if (watch_output_ && !watched) Wake();
}

// This and the following are run by the client's own thread.
void Client::Impl::Run() {
  ::pthread_setname_np(::pthread_self(), "jsonrpc-client");
  do {
    absl::StatusOr<base::UniqueFd> socket =
        Connect(options_.socket_path, options_.trusted_users_only);
    if (socket.ok()) {
      Serve(*std::move(socket));
    } else {
      FailToConnect(socket.status());
    }
  } while (PauseBeforeRetry());
}

void Client::Impl::FailToConnect(const absl::Status& reason) {
  {
    MutexLock lock(mutex_);
    if (last_error_ != reason) {
      spdlog::warn("JSON-RPC: {}: {}", options_.socket_path, std::string(reason.message()));
    }
    last_error_ = reason;
  }
  if (options_.on_connect_failed) options_.on_connect_failed(reason);
}

// Returns false if the client is being stopped.
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
                                    : "the target sent a message that is not an answer");
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

std::unique_ptr<Client> Client::Start(ClientOptions options) {
  std::unique_ptr<Client> client(new Client(std::make_unique<Impl>(std::move(options))));
  client->impl_->Start();
  return client;
}

Client::Client(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Client::~Client() { Stop(); }
void Client::Stop() { impl_->Stop(); }

std::vector<absl::StatusOr<Json>> Client::CallMany(const base::Context& context,
                                                   std::span<const Request> requests) {
  return impl_->CallMany(context, requests);
}

uint64_t Client::generation() const { return impl_->generation(); }
bool Client::MayActLate(std::span<const std::string> objects,
                        std::chrono::nanoseconds after_loss) const {
  return impl_->MayActLate(objects, after_loss);
}
bool Client::connected() const { return impl_->connected(); }
absl::Status Client::WaitConnected(const base::Context& context) {
  return impl_->WaitConnected(context);
}
ClientStats Client::stats() const { return impl_->stats(); }

}  // namespace sma::jsonrpc
