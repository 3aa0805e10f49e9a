// SPDX-License-Identifier: Apache-2.0

#include "agent/volume/discovery.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "agent/spdk/call.h"
#include "agent/volume/connection_names.h"

namespace sma::volume {

using base::Context;
using base::Uuid;
using spdk::DiscoveryService;
using spdk::TransportAddress;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

namespace {

// How long to wait for a service that is being stopped, which occupies its address until it has
// ended.
constexpr std::chrono::seconds kStopTime{5};
constexpr milliseconds kMinPause{10};
constexpr milliseconds kMaxPause{250};
constexpr std::chrono::seconds kRestartPeriod{10};
// How long a started service may take to attach the subsystems that it lists.
constexpr milliseconds kAttachTime{500};

// How long after the start of a service concurrent calls may not yet have seen its referrals.
constexpr std::chrono::seconds kRecentTime{2};

bool Serves(const DiscoveryService& service, const TransportAddress& address) {
  return spdk::SameAddress(service.address, address) ||
         std::any_of(
             service.referrals.begin(), service.referrals.end(),
             [&](const TransportAddress& other) { return spdk::SameAddress(other, address); });
}

}  // namespace

std::string DiscoveryServices::PlanName(const TransportAddress& address, const Uuid& volume) const {
  return connections_.PlanName(ServiceKey(address), ServiceName(address, volume));
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

void DiscoveryServices::ForgetUnused(const std::string& name) {
  if (connections_.IsUsed(name)) return;
  base::MutexLock lock(mutex_);
  hosts_.erase(name);
  restarted_.erase(name);
  started_.erase(name);
}

absl::StatusOr<DiscoveryServices::Joined> DiscoveryServices::Join(const Context& context,
                                                                  const Uuid& volume,
                                                                  const std::string& name,
                                                                  const TransportAddress& address,
                                                                  const std::string& hostnqn) {
  const auto end = steady_clock::now() + kStopTime;
  for (milliseconds pause = kMinPause;; pause = std::min(2 * pause, kMaxPause)) {
    absl::StatusOr<Started> started = Start(context, volume, name, address, hostnqn);
    if (!started.ok()) return started.status();
    if (*started != Started::kRefused) {
      return Joined{.name = name, .is_started = *started == Started::kYes};
    }
    absl::StatusOr<std::optional<std::string>> joined = JoinServing(context, volume, address);
    if (!joined.ok()) return joined.status();
    if (*joined) return Joined{.name = **joined};
    const auto now = steady_clock::now();
    if (now >= end) {
      return absl::UnavailableError(fmt::format(
          "discovery service {} port {}: the target refuses to start it because it is a "
          "duplicate, but does not list it",
          address.traddr, address.trsvcid));
    }
    if (absl::Status status = context.SleepUntil(now + pause); !status.ok()) return status;
  }
}

absl::StatusOr<DiscoveryServices::Started> DiscoveryServices::Start(const Context& context,
                                                                    const Uuid& volume,
                                                                    const std::string& name,
                                                                    const TransportAddress& address,
                                                                    const std::string& hostnqn) {
  absl::StatusOr<UseCounts::Held> held = connections_.Lock(context, name);
  if (!held.ok()) return held.status();
  const uint64_t generation = target_.generation();
  const bool is_new = held->users().insert(volume).second;
  const bool is_ours = !is_new || held->users().size() > 1;
  if (is_ours && connections_.services().Find(generation, name)) return Started::kWasRunning;
  absl::Status status =
      spdk::DoToEnd(target_, context, spdk::StartDiscovery(name, address, KeepHost(name, hostnqn)));
  if (status.ok()) {
    connections_.services().Put(generation, name,
                                {.name = name, .address = address, .referrals = {}});
    base::MutexLock lock(mutex_);
    started_.insert_or_assign(name, steady_clock::now());
    return Started::kYes;
  }
  if (!spdk::IsKnownDiscovery(status)) return status;
  if (is_new) held->users().erase(volume);
  if (held->users().empty()) {
    base::MutexLock lock(mutex_);
    hosts_.erase(name);
  }
  return Started::kRefused;
}

// Uses the service that serves `address`; returns nullopt if there is none at present.
absl::StatusOr<std::optional<std::string>> DiscoveryServices::JoinServing(
    const Context& context, const Uuid& volume, const TransportAddress& address) {
  if (absl::Status status = connections_.RefreshServices(context); !status.ok()) return status;
  std::optional<std::string> name = FindServing(address);
  if (!name) return std::nullopt;
  if (!connections_.IsUsed(*name)) return std::string();
  absl::StatusOr<UseCounts::Held> held = connections_.Lock(context, *name);
  if (!held.ok()) return held.status();
  // The last user may have left it in the meantime.
  if (held->users().empty()) return std::nullopt;
  held->users().insert(volume);
  return name;
}

absl::StatusOr<DiscoveryServices::Joined> DiscoveryServices::Rejoin(
    const Context& context, const Uuid& volume, const std::string& name,
    const TransportAddress& address, const std::string& hostnqn,
    const std::vector<std::string>& used) {
  std::optional<std::string> serving = FindServing(address);
  if (serving && std::find(used.begin(), used.end(), *serving) != used.end()) {
    return Joined{.name = *serving};
  }
  if (serving && !connections_.IsUsed(*serving)) return Joined();
  return Join(context, volume, name, address, hostnqn);
}

void DiscoveryServices::NoteBdevExists(const Uuid& volume) {
  base::MutexLock lock(mutex_);
  std::erase_if(restarted_for_, [&](const auto& restarted) { return restarted.first == volume; });
}

absl::Status DiscoveryServices::Restart(const Context& context, const Uuid& volume,
                                        const std::string& name) {
  {
    base::MutexLock lock(mutex_);
    const auto now = steady_clock::now();
    auto [last, is_first] = restarted_.emplace(name, now);
    if (!is_first && now - last->second < kRestartPeriod) return absl::OkStatus();
    last->second = now;
  }
  absl::StatusOr<UseCounts::Held> held = connections_.Lock(context, name);
  if (!held.ok()) return held.status();
  const std::optional<DiscoveryService> service =
      connections_.services().Find(target_.generation(), name);
  const std::optional<std::string> host = HostOf(name);
  if (!service || !host) return absl::OkStatus();
  absl::StatusOr<bool> is_idle = connections_.IsIdle(context, name);
  if (!is_idle.ok()) return is_idle.status();
  if (!*is_idle) {
    {
      base::MutexLock lock(mutex_);
      const auto started = started_.find(name);
      if (started != started_.end() && steady_clock::now() - started->second < kAttachTime) {
        restarted_.erase(name);
        return absl::OkStatus();
      }
      if (!restarted_for_.emplace(volume, name).second) return absl::OkStatus();
    }
    absl::StatusOr<bool> has_no_volumes = connections_.HasNoVolumes(context, name);
    if (!has_no_volumes.ok() || !*has_no_volumes) return has_no_volumes.status();
  }
  spdlog::info("volume {}: missing on the target, restarting discovery service {}",
               volume.ToString(), name);
  connections_.services().Remove(name);
  const jsonrpc::Request requests[] = {spdk::StopDiscovery(name),
                                       spdk::StartDiscovery(name, service->address, *host)};
  absl::Status status = spdk::DoToEnd(target_, context, requests[0]);
  if (!status.ok() && !spdk::IsUnknownName(status)) return status;
  const uint64_t generation = target_.generation();
  status = spdk::DoToEnd(target_, context, requests[1]);
  if (status.ok()) connections_.services().Put(generation, name, *service);
  return status;
}

bool DiscoveryServices::IsRecentlyStarted(const std::string& name) const {
  base::MutexLock lock(mutex_);
  auto started = started_.find(name);
  return started != started_.end() && steady_clock::now() - started->second < kRecentTime;
}

bool DiscoveryServices::IsServing(const std::string& name, const TransportAddress& address) const {
  const std::optional<DiscoveryService> service =
      connections_.services().Find(target_.generation(), name);
  return service && Serves(*service, address);
}

std::optional<std::string> DiscoveryServices::FindServing(const TransportAddress& address) const {
  return connections_.services().FindIf(target_.generation(), [&](const DiscoveryService& service) {
    return Serves(service, address);
  });
}

}  // namespace sma::volume
