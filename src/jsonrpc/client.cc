#include "jsonrpc/client.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

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

}  // namespace

Client::Impl::Impl(ClientOptions options)
    : options_(std::move(options)), wake_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}

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
    // All answers have come meanwhile; the client's thread is about to say so.
    return group.ended.Wait();
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
