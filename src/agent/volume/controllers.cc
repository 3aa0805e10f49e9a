// SPDX-License-Identifier: Apache-2.0

#include "agent/volume/controllers.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "agent/probe/nvme_connect.h"
#include "agent/spdk/call.h"
#include "agent/volume/address.h"
#include "agent/volume/connection_names.h"
#include "agent/volume/probe.h"
#include "base/lock_table.h"
#include "base/log_limit.h"
#include "jsonrpc/call_scope.h"
#include "jsonrpc/error.h"

namespace sma::volume {

using base::Context;
using base::Uuid;
using spdk::Controller;
using spdk::TransportAddress;
using std::chrono::steady_clock;

namespace {

// How long a call waits for a path that the target is connecting.
constexpr std::chrono::seconds kPathTime{1};
constexpr std::chrono::milliseconds kPathPause{20};

// The name of the connection comes last, since an NQN may contain spaces.
std::string PathKey(const std::string& name, const TransportAddress& address) {
  return fmt::format("{} {} {}", address.traddr, address.trsvcid, name);
}

// Finds out why a connect failed, since the target returns only an errno.
std::string Explain(const Context& context, const TransportAddress& address,
                    const RemoteSubsystem& subsystem) {
  const std::string why = WhyUnreachable(context, address.traddr, address.trsvcid);
  if (!why.empty()) return why;
  const std::string& host = subsystem.hostnqn;
  const std::string told = host.empty() ? "with the target's own NQN" : host;
  switch (probe::ProbeNvmeConnect(address.traddr, address.trsvcid, subsystem.subnqn,
                                  ProbeHost(host), ProbeEnd(context))) {
    case probe::ConnectAnswer::kHostRefused:
      return fmt::format("subsystem {} does not allow host {}", subsystem.subnqn, told);
    case probe::ConnectAnswer::kNoSubsystem:
      return fmt::format("it has no subsystem {}", subsystem.subnqn);
    default:
      return fmt::format("it accepts connections, but not to subsystem {} from host {}",
                         subsystem.subnqn, told);
  }
}

// Returns DEADLINE_EXCEEDED instead of the error with which the target has ended an attempt after a
// time limit of its own, if the node does not answer a Connect command.
absl::Status WithSilence(const Context& context, const RemoteSubsystem& subsystem,
                         const TransportAddress& address, absl::Status status) {
  if (!jsonrpc::GetTargetError(status) || context.done()) return status;
  if (probe::ProbeNvmeConnect(address.traddr, address.trsvcid, subsystem.subnqn,
                              ProbeHost(subsystem.hostnqn),
                              ProbeEnd(context)) != probe::ConnectAnswer::kUnknown) {
    return status;
  }
  return absl::DeadlineExceededError(status.message());
}

}  // namespace

std::string Controllers::PlanName(const std::string& subnqn, const Uuid& volume,
                                  const std::vector<TransportAddress>& addresses) const {
  const std::string key = ControllerKey(subnqn);
  // Subsystems of several nodes may have the same NQN, for example if the nodes were cloned. While
  // the other one is connected, it shows when a path is added whether it is the same subsystem.
  auto may_be_same = [&](const std::string& name) {
    return HasPath(name, nullptr) || connections_.IsAtAnyOf(name, addresses);
  };
  if (std::optional<std::string> used = connections_.FindByKey(key, may_be_same)) {
    return *std::move(used);
  }
  if (connections_.FindByKey(key)) return SeparateName(subnqn, volume);
  return connections_.PlanName(key, ControllerName(subnqn, volume));
}

std::string Controllers::SeparateName(const std::string& subnqn, const Uuid& volume) {
  return ControllerName(subnqn, Uuid::FromName(volume, "separate controller"));
}

std::string Controllers::ConnectionOf(const std::string& key) {
  const size_t first = key.find(' ');
  return key.substr(key.find(' ', first + 1) + 1);
}

bool Controllers::HasPath(const std::string& name, const TransportAddress* address) const {
  const auto controller = connections_.controllers().Find(target_.generation(), name);
  if (!controller) return false;
  return std::any_of(controller->paths.begin(), controller->paths.end(),
                     [&](const spdk::ControllerPath& path) {
                       return address == nullptr || spdk::SameAddress(path.address, *address);
                     });
}

absl::Status Controllers::AddUser(const Context& context, const Uuid& volume,
                                  const std::string& name) {
  absl::StatusOr<UseCounts::Held> held = connections_.Lock(context, name);
  if (!held.ok()) return held.status();
  held->users().insert(volume);
  return absl::OkStatus();
}

Outcome Controllers::Join(const Context& context, const Uuid& volume,
                          const RemoteSubsystem& subsystem, const JoinOptions& options,
                          JoinedPaths& joined) {
  const std::string& name = subsystem.controller;
  if (absl::Status status = AddUser(context, volume, name); !status.ok()) return status;
  const auto& addresses = subsystem.addresses;
  joined.may_be_another =
      HasPath(name, nullptr) &&
      std::none_of(addresses.begin(), addresses.end(),
                   [&](const TransportAddress& address) { return HasPath(name, &address); });
  Attempts attempts;
  Outcome ended = TryAll(context, subsystem, options.timeout, joined, attempts);
  if (!ended.ok()) return ended;
  std::vector<std::string>& errors = attempts.errors;
  bool is_connected = attempts.any_connected;
  is_connected |= options.needs_path ? IsUp(name) : HasPath(name, nullptr);
  if (!is_connected) is_connected = WaitForPath(context, subsystem, errors);
  if (!errors.empty()) {
    static base::LogLimit limit(20, 1);
    limit.Log(spdlog::level::warn, "subsystem {}: {}", subsystem.subnqn,
              fmt::to_string(fmt::join(errors, "; ")));
  }
  if (is_connected) {
    for (const TransportAddress& address : attempts.failed) {
      joined.added.push_back(address);
      RestorePath(subsystem, address, /*waits=*/false).IgnoreError();
    }
    return absl::OkStatus();
  }
  const auto code =
      attempts.any_answered ? absl::StatusCode::kNotFound : absl::StatusCode::kUnavailable;
  absl::Status status(code, fmt::format("subsystem {} could not be reached: {}", subsystem.subnqn,
                                        fmt::join(errors, "; ")));
  return attempts.any_unknown ? Outcome::Unknown(std::move(status)) : status;
}

// The addresses are attached one after the other: the first one creates the controller, and the
// others add paths to it. Each gets an equal share of the time. Returns an error if the caller's
// context or the connection to the target has ended.
Outcome Controllers::TryAll(const Context& context, const RemoteSubsystem& subsystem,
                            std::chrono::nanoseconds timeout, JoinedPaths& joined,
                            Attempts& attempts) {
  const std::string& name = subsystem.controller;
  const auto share = timeout / std::max<size_t>(subsystem.addresses.size(), 1);
  for (const TransportAddress& address : subsystem.addresses) {
    if (HasPath(name, &address)) continue;
    if (HasPath(name, nullptr) && nodes_.IsRestoring(PathKey(name, address))) continue;
    const Outcome outcome =
        TryOne(context.Child(steady_clock::now() + share), subsystem, address, joined);
    if (outcome.ok()) {
      // The target may still be connecting a path that it knows.
      attempts.any_connected |= !HasPath(name, &address) || IsUp(name);
      continue;
    }
    if (context.done()) {
      absl::Status ended(context.status().code(), outcome.message());
      return outcome.is_unknown() ? Outcome::Unknown(std::move(ended)) : ended;
    }
    if (absl::IsUnavailable(outcome.status()) && outcome.is_unknown()) return outcome;
    attempts.any_answered |= absl::IsNotFound(outcome.status());
    attempts.any_unknown |= outcome.is_unknown();
    attempts.failed.push_back(address);
    attempts.errors.push_back(outcome.message());
  }
  return {};
}

bool Controllers::IsUp(const std::string& name) const {
  const auto controller = connections_.controllers().Find(target_.generation(), name);
  return controller && std::any_of(controller->paths.begin(), controller->paths.end(),
                                   [](const spdk::ControllerPath& path) { return path.is_up(); });
}

// The target also lists paths that it is connecting, or connecting again: waits for one of them,
// unless their nodes are known not to answer. Adds to `errors` those that are not up.
bool Controllers::WaitForPath(const Context& context, const RemoteSubsystem& subsystem,
                              std::vector<std::string>& errors) {
  std::vector<std::string> nodes;
  for (const TransportAddress& address : subsystem.addresses) {
    if (!HasPath(subsystem.controller, &address)) continue;
    const std::string node = NodeName(address);
    absl::Status status = nodes_.Admit(node);
    if (status.ok()) nodes.push_back(node);
    if (!status.ok()) errors.push_back(std::string(status.message()));
  }
  if (nodes.empty()) return false;
  const auto until = steady_clock::now() + kPathTime;
  while (connections_.RefreshControllers(context).ok()) {
    if (IsUp(subsystem.controller)) return true;
    const auto now = steady_clock::now();
    if (now >= until) break;
    if (!context.SleepUntil(now + kPathPause).ok()) return false;
  }
  if (context.done()) return false;
  for (const std::string& node : nodes) {
    nodes_.Report(node, absl::DeadlineExceededError("no path to it is up"));
    errors.push_back(node + ": the target has a path to it, which is not up");
  }
  return false;
}

// Returns DEADLINE_EXCEEDED if the node did not answer, NOT_FOUND if connecting failed otherwise,
// UNAVAILABLE if it was not tried.
Outcome Controllers::TryOne(const Context& context, const RemoteSubsystem& subsystem,
                            const TransportAddress& address, JoinedPaths& joined) {
  const std::string node = NodeName(address);
  absl::StatusOr<RemoteNodes::Visit> visit = nodes_.BeginVisit(node);
  if (!visit.ok()) return visit.status();
  const auto start = steady_clock::now();
  const absl::StatusOr<bool> is_added = Attach(context, subsystem, address);
  const Outcome outcome = is_added.status();
  if (outcome.ok() ? *is_added : outcome.is_unknown()) joined.added.push_back(address);
  if (outcome.ok()) nodes_.Report(node, absl::OkStatus());
  const absl::Status& status = outcome.status();
  if (outcome.ok() || absl::IsUnavailable(status)) return outcome;
  // A timeout of a caller that had little time left does not mean that the node is down.
  const bool has_waited = steady_clock::now() - start >= RemoteNodes::kSilence;
  const bool is_timeout = absl::IsDeadlineExceeded(status);
  if (!is_timeout || has_waited) nodes_.Report(node, status);
  const std::string why = is_timeout ? "it does not answer" : Explain(context, address, subsystem);
  absl::Status failure(
      is_timeout ? absl::StatusCode::kDeadlineExceeded : absl::StatusCode::kNotFound,
      fmt::format("{}: {} ({})", node, why, outcome.message()));
  return outcome.is_unknown() ? Outcome::Unknown(std::move(failure)) : failure;
}

// Runs without the lock of the connection's name, so that a caller that releases the connection
// does not have to wait. Returns true if the target had no such path before.
absl::StatusOr<bool> Controllers::Attach(const Context& context, const RemoteSubsystem& subsystem,
                                         const TransportAddress& address) {
  const uint64_t generation = target_.generation();
  const auto start = steady_clock::now();
  const jsonrpc::Request request =
      spdk::AttachController(subsystem.controller, address, subsystem.subnqn, subsystem.hostnqn);
  absl::Status status = target_.Call(context, request).status();
  // Another controller already has this path; the volumes depend on that controller while it
  // exists.
  if (spdk::IsPathOfAnother(status)) return false;
  const bool is_known = spdk::IsKnownPath(status);
  if (!status.ok() && !is_known) {
    return steady_clock::now() - start < RemoteNodes::kSilence
               ? status
               : WithSilence(context, subsystem, address, std::move(status));
  }
  if (is_known && HasPath(subsystem.controller, &address)) return false;
  connections_.controllers().Update(generation, subsystem.controller, [&](Controller& controller) {
    controller.name = subsystem.controller;
    controller.paths.push_back({.address = address,
                                .subnqn = subsystem.subnqn,
                                .state = is_known ? "connecting" : "enabled"});
  });
  return !is_known;
}

absl::Status Controllers::RemovePaths(const Context& context, const Uuid& volume,
                                      const RemoteSubsystem& subsystem,
                                      const std::vector<TransportAddress>& paths, bool is_going) {
  RemoteSubsystem removed = subsystem;
  removed.addresses = paths;
  absl::Status first = EndAttempts(context, volume, removed);
  for (const TransportAddress& address : paths) {
    first.Update(connections_.RemovePath(context, volume, subsystem.controller, subsystem.subnqn,
                                         address, is_going));
  }
  return first;
}

absl::Status Controllers::RestorePath(const RemoteSubsystem& subsystem,
                                      const TransportAddress& address, bool waits) {
  auto attempt = [this, subsystem, address](const Context& context) -> absl::Status {
    absl::StatusOr<std::set<Uuid>> users = connections_.UsersOf(context, subsystem.controller);
    if (!users.ok() || users->empty()) return users.status();
    // The volumes that the call affects, for MayActLate in case the call is abandoned.
    std::vector<std::string> objects;
    for (const Uuid& user : *users) objects.push_back(base::LockTable::Volume(user).name);
    const jsonrpc::CallScope scope(std::move(objects));
    return Attach(context, subsystem, address).status();
  };
  return nodes_.Restore(NodeName(address), PathKey(subsystem.controller, address), attempt, waits);
}

absl::Status Controllers::Restore(const Context& context, const Uuid& volume,
                                  const RemoteSubsystem& subsystem) {
  const std::string& name = subsystem.controller;
  if (absl::Status status = AddUser(context, volume, name); !status.ok()) return status;
  const std::string other = connections_.ControllerOf(volume);
  if (!other.empty() && other != name && !HasPath(name, nullptr)) return absl::OkStatus();
  std::vector<std::string> errors;
  bool is_connected = false;
  for (const TransportAddress& address : subsystem.addresses) {
    if (HasPath(name, &address)) continue;
    // If another path is up, the device can work without this one, so do not wait.
    absl::Status status = RestorePath(subsystem, address, /*waits=*/!HasPath(name, nullptr));
    is_connected |= status.ok();
    if (!status.ok()) errors.push_back(std::string(status.message()));
  }
  if (is_connected || HasPath(name, nullptr)) return absl::OkStatus();
  return absl::UnavailableError(
      fmt::format("subsystem {} is not connected: {}", subsystem.subnqn, fmt::join(errors, "; ")));
}

absl::Status Controllers::Reconnect(const Context& context, const Uuid& volume,
                                    const RemoteSubsystem& subsystem) {
  const std::string& name = subsystem.controller;
  if (!IsUp(name)) return absl::OkStatus();
  {
    base::MutexLock lock(mutex_);
    if (reconnected_for_.contains(volume)) return absl::OkStatus();
  }
  {
    absl::StatusOr<UseCounts::Held> held = connections_.Lock(context, name);
    if (!held.ok()) return held.status();
    absl::StatusOr<bool> is_unused = connections_.HasNoVolumes(context, name);
    if (!is_unused.ok() || !*is_unused) return is_unused.status();
    {
      base::MutexLock lock(mutex_);
      reconnected_for_.insert(volume);
    }
    spdlog::info("volume {}: missing on the target, connecting subsystem {} anew",
                 volume.ToString(), subsystem.subnqn);
    absl::Status status = spdk::DoToEnd(target_, context, spdk::DetachController(name));
    if (!status.ok() && !spdk::IsUnknownName(status)) return status;
    connections_.controllers().Remove(name);
  }
  return Restore(context, volume, subsystem);
}

void Controllers::NoteBdevExists(const Uuid& volume) {
  base::MutexLock lock(mutex_);
  reconnected_for_.erase(volume);
}

bool Controllers::IsRestoring(const RemoteSubsystem& subsystem) const {
  return std::any_of(subsystem.addresses.begin(), subsystem.addresses.end(),
                     [&](const TransportAddress& address) {
                       return nodes_.IsRestoring(PathKey(subsystem.controller, address));
                     });
}

absl::Status Controllers::Leave(const Context& context, const Uuid& volume,
                                const RemoteSubsystem& subsystem) {
  if (absl::Status status = EndAttempts(context, volume, subsystem); !status.ok()) return status;
  NoteBdevExists(volume);
  return connections_.Leave(context, volume, subsystem.controller);
}

absl::Status Controllers::EndAttempts(const Context& context, const Uuid& volume,
                                      const RemoteSubsystem& subsystem) {
  const std::string& name = subsystem.controller;
  for (const TransportAddress& address : subsystem.addresses) {
    if (!nodes_.IsRestoring(PathKey(name, address))) continue;
    absl::StatusOr<bool> is_needed = connections_.IsNeededByOthers(context, volume, name, address);
    if (!is_needed.ok()) return is_needed.status();
    if (!*is_needed) nodes_.Cancel(PathKey(name, address));
  }
  return absl::OkStatus();
}

}  // namespace sma::volume
