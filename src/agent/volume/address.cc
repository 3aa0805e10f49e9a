// SPDX-License-Identifier: Apache-2.0

#include "agent/volume/address.h"

#include <fmt/format.h>
#include <netdb.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <memory>
#include <set>
#include <thread>
#include <utility>

#include "base/host_name.h"
#include "base/ip_address.h"
#include "base/mutex.h"
#include "base/strings.h"

namespace sma::volume {

using base::MutexLock;
using std::chrono::nanoseconds;

namespace {

// How long a call waits for a host whose last lookup took too long.
constexpr nanoseconds kShortPatience = std::chrono::milliseconds(100);
// The maximum number of threads that wait for the name server, and of hosts that are remembered.
constexpr size_t kMaxLookups = 64;
constexpr size_t kMaxSilent = 1000;

bool IsPort(std::string_view text) {
  uint16_t port = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  return error == std::errc() && end == text.data() + text.size() && port != 0;
}

}  // namespace

absl::StatusOr<nvmf::Address> CheckAddress(const nvmf::Address& address, std::string_view field,
                                           std::string_view default_port) {
  auto bad = [field](std::string_view what, const std::string& value) {
    return absl::InvalidArgumentError(fmt::format("{}: {} '{}'", field, what, value));
  };
  nvmf::Address checked;
  checked.set_trtype(address.trtype().empty() ? "tcp" : base::ToLower(address.trtype()));
  if (checked.trtype() != "tcp" && checked.trtype() != "rdma") {
    return bad("trtype is neither tcp nor rdma:", address.trtype());
  }
  checked.set_trsvcid(address.trsvcid().empty() ? std::string(default_port) : address.trsvcid());
  if (!IsPort(checked.trsvcid())) return bad("trsvcid is not a valid port:", address.trsvcid());
  std::optional<base::IpAddress> ip = base::IpAddress::Parse(address.traddr());
  if (!ip && !base::IsHostName(address.traddr())) {
    return bad("traddr is neither an IP address nor a host name:", address.traddr());
  }
  checked.set_traddr(ip ? ip->ToString() : base::ToLower(address.traddr()));
  return checked;
}

// A lookup of a host name. getaddrinfo(3) cannot be cancelled and has no timeout: it runs in a
// detached thread, and callers stop waiting for it.
struct HostResolver::Lookup {
  base::Mutex mutex;
  base::CondVar changed;
  bool done SMA_GUARDED_BY(mutex) = false;
  int error SMA_GUARDED_BY(mutex) = 0;
  std::string ip SMA_GUARDED_BY(mutex);
};

// What the detached threads use; they may outlive the resolver.
struct HostResolver::State {
  base::Mutex mutex;
  std::map<std::string, std::shared_ptr<Lookup>> pending SMA_GUARDED_BY(mutex);  // by host
  std::set<std::string> silent SMA_GUARDED_BY(mutex);  // hosts whose last lookup took too long
};

HostResolver::HostResolver(ResolveFunction resolve, nanoseconds patience)
    : resolve_(std::move(resolve)), patience_(patience), state_(std::make_shared<State>()) {}

void HostResolver::Run(const std::shared_ptr<State>& state, const std::shared_ptr<Lookup>& lookup,
                       const ResolveFunction& resolve, const std::string& host) {
  std::string ip;
  const int error = resolve(host, ip);
  {
    MutexLock lock(state->mutex);
    state->pending.erase(host);
    if (error == 0) state->silent.erase(host);
  }
  MutexLock lock(lookup->mutex);
  lookup->ip = std::move(ip);
  lookup->error = error;
  lookup->done = true;
  lookup->changed.NotifyAll();
}

// Returns the pending lookup of the host, or starts one; null if there are too many. Sets `wait` to
// the time that the caller may wait for it.
std::shared_ptr<HostResolver::Lookup> HostResolver::Begin(const std::string& host,
                                                          nanoseconds& wait) {
  MutexLock lock(state_->mutex);
  wait = state_->silent.contains(host) ? std::min(patience_, kShortPatience) : patience_;
  if (auto found = state_->pending.find(host); found != state_->pending.end()) return found->second;
  if (state_->pending.size() >= kMaxLookups) return nullptr;
  auto lookup = std::make_shared<Lookup>();
  state_->pending.emplace(host, lookup);
  std::thread([state = state_, lookup, resolve = resolve_, host] {
    Run(state, lookup, resolve, host);
  }).detach();
  return lookup;
}

void HostResolver::NoteSilent(const std::string& host) {
  MutexLock lock(state_->mutex);
  if (!state_->pending.contains(host)) return;  // answered in the meantime
  if (state_->silent.size() >= kMaxSilent) state_->silent.clear();
  state_->silent.insert(host);
}

absl::Status HostResolver::Resolve(const base::Context& caller, nvmf::Address& address) {
  if (base::IpAddress::Parse(address.traddr())) return absl::OkStatus();
  const std::string host = address.traddr();
  nanoseconds wait{0};
  const std::shared_ptr<Lookup> lookup = Begin(host, wait);
  if (lookup == nullptr) {
    return absl::UnavailableError(
        fmt::format("host {}: too many names wait for the name server", host));
  }
  const base::Context context = caller.Child(std::chrono::steady_clock::now() + wait);
  uint64_t callback = context.AddCallback([lookup] {
    MutexLock lock(lookup->mutex);
    lookup->changed.NotifyAll();
  });
  absl::Status status;
  {
    MutexLock lock(lookup->mutex);
    // The context is checked before each wait, because its callback does not run for a cancellation
    // that preceded AddCallback.
    while (!lookup->done && (status = context.status()).ok()) {
      lookup->changed.WaitUntil(lookup->mutex, context.deadline());
    }
    if (lookup->done && lookup->error == 0) {
      status = absl::OkStatus();
      address.set_traddr(lookup->ip);
    } else if (lookup->done) {
      bool unknown = lookup->error == EAI_NONAME || lookup->error == EAI_FAIL;
      status = absl::Status(
          unknown ? absl::StatusCode::kInvalidArgument : absl::StatusCode::kUnavailable,
          fmt::format("host {}: {}", host, gai_strerror(lookup->error)));
    } else if (caller.status().ok()) {
      status =
          absl::UnavailableError(fmt::format("host {}: the name server does not answer", host));
    } else {
      status = absl::Status(status.code(),
                            fmt::format("host {}: the name was not resolved in time", host));
    }
  }
  context.RemoveCallback(callback);
  if (absl::IsUnavailable(status)) NoteSilent(host);
  return status;
}

// Never destroyed, because lookups may run until the process ends.
absl::Status ResolveHost(const base::Context& context, nvmf::Address& address) {
  static auto& resolver = *new HostResolver;
  return resolver.Resolve(context, address);
}

spdk::TransportAddress ToTransportAddress(const nvmf::Address& address) {
  std::optional<base::IpAddress> ip = base::IpAddress::Parse(address.traddr());
  return {.trtype = address.trtype(),
          .adrfam = ip && ip->is_v6() ? "ipv6" : "ipv4",
          .traddr = address.traddr(),
          .trsvcid = address.trsvcid()};
}

std::string NodeName(const spdk::TransportAddress& address) {
  return fmt::format("{} port {}", address.traddr, address.trsvcid);
}

}  // namespace sma::volume
