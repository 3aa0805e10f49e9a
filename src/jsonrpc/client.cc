#include "jsonrpc/client.h"

#include <fmt/format.h>
#include <poll.h>
#include <pthread.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <random>
#include <thread>
#include <utility>

#include "base/mutex.h"
#include "base/unique_fd.h"
#include "jsonrpc/message.h"
#include "jsonrpc/pending_calls.h"
#include "jsonrpc/splitter.h"

namespace sma::jsonrpc {
namespace {

using base::MutexLock;
using base::TimePoint;
using std::chrono::steady_clock;

constexpr size_t kReceiveBytes = 64 * 1024;

absl::StatusOr<base::UniqueFd> Connect(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) return absl::InvalidArgumentError("path too long");
  std::memcpy(address.sun_path, path.data(), path.size());
  base::UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid() ||
      ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return absl::ErrnoToStatus(errno, "cannot connect");
  }
  return fd;
}

TimePoint After(std::chrono::nanoseconds wait) {
  const TimePoint now = steady_clock::now();
  return wait >= TimePoint::max() - now ? TimePoint::max() : now + wait;
}

}  // namespace

class Client::Impl {
 public:
  explicit Impl(ClientOptions options)
      : options_(std::move(options)), wake_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}

  void Start() { thread_ = std::thread(&Impl::Run, this); }
  void Stop();
  std::vector<absl::StatusOr<Json>> CallMany(const base::Context& context,
                                             std::span<const Request> requests);
  absl::Status WaitConnected(const base::Context& context);
  uint64_t generation() const { return generation_; }
  bool connected() const {
    MutexLock lock(mutex_);
    return connected_;
  }
  ClientStats stats() const {
    MutexLock lock(mutex_);
    return calls_.stats();
  }

 private:
  // In the callers' threads.
  absl::Status WaitForConnection(const base::Context& context, TimePoint until)
      SMA_REQUIRES(mutex_);
  absl::Status Send(const base::Context& context, std::string text, CallGroup& group);
  void Await(const base::Context& context, CallGroup& group);
  void Flush() SMA_REQUIRES(mutex_);
  void Wake();

  // In the client's own thread.
  void Run();
  void Serve(base::UniqueFd socket);
  absl::Status ServeUntilBroken(int socket);
  absl::Status Receive(int socket, Splitter& input);
  void Disconnect(const absl::Status& reason);
  bool PauseBeforeRetry();

  const ClientOptions options_;
  const base::UniqueFd wake_;  // tells the thread that stopping_ or watch_output_ was set
  std::thread thread_;
  std::atomic<uint64_t> generation_{0};
  std::atomic<uint64_t> next_id_{1};

  mutable base::Mutex mutex_;
  base::CondVar state_changed_;  // connected_, stopping_, or a waiting caller's context
  bool stopping_ SMA_GUARDED_BY(mutex_) = false;
  bool connected_ SMA_GUARDED_BY(mutex_) = false;
  bool watch_output_ SMA_GUARDED_BY(mutex_) =
      false;  // calls_ has output that the socket did not take
  absl::Status last_error_ SMA_GUARDED_BY(mutex_) = absl::UnavailableError("not tried yet");
  base::UniqueFd socket_ SMA_GUARDED_BY(mutex_);
  PendingCalls calls_ SMA_GUARDED_BY(mutex_);

  // The thread's own.
  std::chrono::nanoseconds backoff_ = options_.min_backoff;
  std::minstd_rand random_{std::random_device{}()};
};

void Client::Impl::Wake() {
  const uint64_t one = 1;
  // Fails only when a wake-up is pending already.
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

// ---- Callers ----

std::vector<absl::StatusOr<Json>> Client::Impl::CallMany(const base::Context& context,
                                                         std::span<const Request> requests) {
  if (requests.empty()) return {};
  CallGroup group;
  group.requests = requests;
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
    MutexLock lock(mutex_);
    group.changed.NotifyAll();
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
  MutexLock lock(mutex_);
  while (group.open > 0) {
    if (absl::Status status = context.status(); !status.ok()) return calls_.GiveUp(group, status);
    group.changed.WaitUntil(mutex_, context.deadline());
  }
}

// A broken connection is left to the thread, which sees its end once it has read what there is.
void Client::Impl::Flush() {
  if (calls_.Flush(socket_.get()) != 0) {
    ::shutdown(socket_.get(), SHUT_RDWR);
    watch_output_ = false;
    return;
  }
  const bool watched = std::exchange(watch_output_, calls_.has_output());
  if (watch_output_ && !watched) Wake();
}

// ---- The client's thread ----

void Client::Impl::Run() {
  ::pthread_setname_np(::pthread_self(), "jsonrpc-client");
  do {
    absl::StatusOr<base::UniqueFd> socket = Connect(options_.socket_path);
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
  {
    MutexLock lock(mutex_);
    sound = calls_.Deliver(answers, next_id_) && sound;
  }
  if (sound && outcome == Splitter::Outcome::kNeedMore) return absl::OkStatus();
  return absl::UnavailableError(sound && outcome == Splitter::Outcome::kTooLarge
                                    ? "the target's answer is too large"
                                    : "the target sent what is no answer");
}

void Client::Impl::Disconnect(const absl::Status& reason) {
  MutexLock lock(mutex_);
  connected_ = false;
  watch_output_ = false;
  last_error_ = reason;
  calls_.FailAll(fmt::format("connection to the target at {} lost: {}", options_.socket_path,
                             std::string(reason.message())));
  socket_.Reset();
}

// ---- Client ----

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
bool Client::connected() const { return impl_->connected(); }
absl::Status Client::WaitConnected(const base::Context& context) {
  return impl_->WaitConnected(context);
}
ClientStats Client::stats() const { return impl_->stats(); }

}  // namespace sma::jsonrpc
