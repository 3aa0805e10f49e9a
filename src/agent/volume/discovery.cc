#include "agent/volume/discovery.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "agent/spdk/call.h"

namespace sma::volume {

using base::Context;
using base::Uuid;
using spdk::DiscoveryService;
using spdk::TransportAddress;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

namespace {

// A service that is being stopped keeps its address for a moment.
constexpr std::chrono::seconds kStopTime{5};
constexpr milliseconds kMinPause{10};
constexpr milliseconds kMaxPause{250};

bool Serves(const DiscoveryService& service, const TransportAddress& address) {
  return spdk::SameAddress(service.address, address) ||
         std::any_of(
             service.referrals.begin(), service.referrals.end(),
             [&](const TransportAddress& other) { return spdk::SameAddress(other, address); });
}

}  // namespace

// The target names controllers by appending a number, hence the character at the end.
std::string DiscoveryServices::NameOf(const TransportAddress& address) {
  return fmt::format("sma_{}_{}_{}_", address.trtype, address.traddr, address.trsvcid);
}

void DiscoveryServices::AddUser(const std::string& name, const Uuid& volume,
                                const std::string& hostnqn) {
  counts_.Add(name, volume);
  KeepHost(name, hostnqn);
}

std::optional<std::string> DiscoveryServices::HostOf(const std::string& name) const {
  base::MutexLock lock(mutex_);
  auto found = hosts_.find(name);
  return found == hosts_.end() ? std::nullopt : std::optional(found->second);
}

std::string DiscoveryServices::KeepHost(const std::string& name, const std::string& hostnqn) {
  base::MutexLock lock(mutex_);
  return hosts_.emplace(name, hostnqn).first->second;
}

void DiscoveryServices::ForgetHost(const std::string& name) {
  base::MutexLock lock(mutex_);
  hosts_.erase(name);
}

absl::StatusOr<std::string> DiscoveryServices::Join(const Context& context, const Uuid& volume,
                                                    const TransportAddress& address,
                                                    const std::string& hostnqn) {
  const auto end = steady_clock::now() + kStopTime;
  for (milliseconds pause = kMinPause;; pause = std::min(2 * pause, kMaxPause)) {
    absl::StatusOr<bool> started = Start(context, volume, address, hostnqn);
    if (!started.ok()) return started.status();
    if (*started) return NameOf(address);
    absl::StatusOr<std::optional<std::string>> joined = JoinServing(context, volume, address);
    if (!joined.ok()) return joined.status();
    if (*joined) return **joined;
    const auto now = steady_clock::now();
    if (now >= end) {
      return absl::UnavailableError(
          fmt::format("discovery service {} port {}: the target refuses it, but does not list it",
                      address.traddr, address.trsvcid));
    }
    if (absl::Status status = context.SleepUntil(now + pause); !status.ok()) return status;
  }
}

absl::StatusOr<bool> DiscoveryServices::Start(const Context& context, const Uuid& volume,
                                              const TransportAddress& address,
                                              const std::string& hostnqn) {
  const std::string name = NameOf(address);
  absl::StatusOr<UseCounts::Held> held = counts_.Lock(context, name);
  if (!held.ok()) return held.status();
  const uint64_t generation = target_.generation();
  const bool is_new = held->users().insert(volume).second;
  const bool is_ours = !is_new || held->users().size() > 1;
  if (is_ours && running_.Find(generation, name)) return true;
  absl::Status status =
      spdk::DoToEnd(target_, context, spdk::StartDiscovery(name, address, KeepHost(name, hostnqn)));
  if (status.ok()) {
    running_.Put(generation, name, {.name = name, .address = address, .referrals = {}});
    return true;
  }
  if (!spdk::IsKnownDiscovery(status)) return status;
  if (is_new) held->users().erase(volume);
  if (held->users().empty()) ForgetHost(name);
  return false;
}

absl::StatusOr<std::optional<std::string>> DiscoveryServices::JoinServing(
    const Context& context, const Uuid& volume, const TransportAddress& address) {
  if (absl::Status status = Look(context); !status.ok()) return status;
  std::optional<std::string> name = FindServing(address);
  if (!name) return std::nullopt;
  if (!counts_.IsUsed(*name)) return std::string();
  absl::StatusOr<UseCounts::Held> held = counts_.Lock(context, *name);
  if (!held.ok()) return held.status();
  // Its last user may have left meanwhile.
  if (held->users().empty()) return std::nullopt;
  held->users().insert(volume);
  return name;
}

absl::StatusOr<std::string> DiscoveryServices::JoinAgain(const Context& context, const Uuid& volume,
                                                         const TransportAddress& address,
                                                         const std::string& hostnqn,
                                                         const std::vector<std::string>& used) {
  std::optional<std::string> name = FindServing(address);
  if (name && std::find(used.begin(), used.end(), *name) != used.end()) return *name;
  if (name && !counts_.IsUsed(*name)) return std::string();
  return Join(context, volume, address, hostnqn);
}

absl::Status DiscoveryServices::Leave(const Context& context, const Uuid& volume,
                                      const std::string& name) {
  absl::StatusOr<UseCounts::Held> held = counts_.Lock(context, name);
  if (!held.ok()) return held.status();
  held->users().erase(volume);
  if (!held->users().empty()) return absl::OkStatus();
  running_.Remove(name);
  absl::Status status = spdk::DoToEnd(target_, context, spdk::StopDiscovery(name));
  running_.Remove(name);
  if (status.ok() || spdk::IsUnknownName(status)) {
    ForgetHost(name);
    return absl::OkStatus();
  }
  held->users().insert(volume);
  return status;
}

absl::Status DiscoveryServices::Look(const Context& context) {
  const auto mark = running_.mark(target_.generation());
  const jsonrpc::Request request = spdk::GetDiscoveryInfo();
  absl::StatusOr<jsonrpc::Json> answer = std::move(target_.CallMany(context, {&request, 1})[0]);
  if (!answer.ok()) return answer.status();
  absl::StatusOr<std::vector<DiscoveryService>> services = spdk::ParseDiscoveryInfo(*answer);
  if (!services.ok()) return services.status();
  std::map<std::string, DiscoveryService> by_name;
  for (DiscoveryService& service : *services) {
    std::string name = service.name;
    by_name.emplace(std::move(name), std::move(service));
  }
  running_.Replace(mark, std::move(by_name));
  return absl::OkStatus();
}

std::optional<std::string> DiscoveryServices::FindServing(const TransportAddress& address) const {
  return running_.FindIf(target_.generation(),
                         [&](const DiscoveryService& service) { return Serves(service, address); });
}

}  // namespace sma::volume
