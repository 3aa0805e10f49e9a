#include "agent/volume/controllers.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "agent/spdk/call.h"
#include "agent/volume/connection_names.h"
#include "agent/volume/probe.h"

namespace sma::volume {

using base::Context;
using base::Uuid;
using spdk::Controller;
using spdk::TransportAddress;
using std::chrono::steady_clock;

namespace {

std::string NodeOf(const TransportAddress& address) {
  return fmt::format("{} port {}", address.traddr, address.trsvcid);
}

// The name of the connection comes last: NQNs may hold blanks.
std::string PathKey(const std::string& name, const TransportAddress& address) {
  return fmt::format("{} {} {}", address.traddr, address.trsvcid, name);
}

// What the target's errno does not say.
std::string Explain(const Context& context, const TransportAddress& address,
                    const RemoteSubsystem& subsystem) {
  const std::string why = WhyUnreachable(context, address.traddr, address.trsvcid);
  if (!why.empty()) return why;
  return fmt::format("it accepts connections, but not to subsystem {} by host {}", subsystem.subnqn,
                     subsystem.hostnqn.empty() ? "NQN of the target" : subsystem.hostnqn);
}

}  // namespace

std::string Controllers::PlanName(const std::string& subnqn, const Uuid& volume) const {
  return connections_.FindByKey(ControllerKey(subnqn)).value_or(ControllerName(subnqn, volume));
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
                          const RemoteSubsystem& subsystem, std::chrono::nanoseconds timeout) {
  const std::string& name = subsystem.controller;
  if (absl::Status status = AddUser(context, volume, name); !status.ok()) return status;
  // One after the other: the first makes the controller, the others become paths to it. Each gets
  // its share of the time.
  const auto share = timeout / std::max<size_t>(subsystem.addresses.size(), 1);
  std::vector<std::string> errors;
  bool is_unknown = false;
  bool any_answered = false;
  bool is_connected = false;
  std::vector<const TransportAddress*> failed;
  for (const TransportAddress& address : subsystem.addresses) {
    if (HasPath(name, &address)) continue;
    if (HasPath(name, nullptr) && nodes_.IsRestoring(PathKey(name, address))) continue;
    const Outcome outcome = TryOne(context.Child(steady_clock::now() + share), subsystem, address);
    is_connected |= outcome.ok();
    if (outcome.ok()) continue;
    if (context.done()) {
      absl::Status ended(context.status().code(), outcome.message());
      return outcome.is_unknown() ? Outcome::Unknown(std::move(ended)) : ended;
    }
    const bool is_lost = absl::IsUnavailable(outcome.status());
    if (is_lost && outcome.is_unknown()) return outcome;
    any_answered |= !is_lost;
    is_unknown |= outcome.is_unknown();
    failed.push_back(&address);
    errors.push_back(outcome.message());
  }
  is_connected |= HasPath(name, nullptr);
  if (!errors.empty()) {
    spdlog::warn("subsystem {}: {}", subsystem.subnqn, fmt::join(errors, "; "));
  }
  if (is_connected) {
    for (const TransportAddress* address : failed) {
      RestorePath(subsystem, *address, /*waits=*/false).IgnoreError();
    }
    return absl::OkStatus();
  }
  const auto code = any_answered ? absl::StatusCode::kNotFound : absl::StatusCode::kUnavailable;
  absl::Status status(code, fmt::format("subsystem {} could not be reached: {}", subsystem.subnqn,
                                        fmt::join(errors, "; ")));
  return is_unknown ? Outcome::Unknown(std::move(status)) : status;
}

// NOT_FOUND: it could not be connected. UNAVAILABLE: it was not tried.
Outcome Controllers::TryOne(const Context& context, const RemoteSubsystem& subsystem,
                            const TransportAddress& address) {
  const std::string node = NodeOf(address);
  if (absl::Status status = nodes_.Admit(node); !status.ok()) return status;
  const auto start = steady_clock::now();
  const Outcome outcome = Attach(context, subsystem, address);
  const absl::Status& status = outcome.status();
  if (outcome.ok() || absl::IsUnavailable(status)) return outcome;
  // A caller with little time learns nothing of the node.
  const bool has_waited = steady_clock::now() - start >= std::chrono::seconds(1);
  if (!absl::IsDeadlineExceeded(status) || has_waited) nodes_.Report(node, status);
  const std::string why = absl::IsDeadlineExceeded(status) ? "it does not answer"
                                                           : Explain(context, address, subsystem);
  absl::Status failure =
      absl::NotFoundError(fmt::format("{}: {} ({})", node, why, outcome.message()));
  return outcome.is_unknown() ? Outcome::Unknown(std::move(failure)) : failure;
}

// The lock of the name is not held meanwhile: whoever leaves the connection does not wait for it.
absl::Status Controllers::Attach(const Context& context, const RemoteSubsystem& subsystem,
                                 const TransportAddress& address) {
  const uint64_t generation = target_.generation();
  const jsonrpc::Request request =
      spdk::AttachController(subsystem.controller, address, subsystem.subnqn, subsystem.hostnqn);
  absl::Status status = target_.CallMany(context, {&request, 1}).front().status();
  // Volumes hang on the other controller then, for as long as it is there.
  if (spdk::IsPathOfAnother(status)) return absl::OkStatus();
  if (!status.ok() && !spdk::IsKnownPath(status)) return status;
  connections_.controllers().Update(generation, subsystem.controller, [&](Controller& controller) {
    controller.name = subsystem.controller;
    controller.paths.push_back(
        {.address = address, .subnqn = subsystem.subnqn, .state = "enabled"});
  });
  return absl::OkStatus();
}

absl::Status Controllers::RestorePath(const RemoteSubsystem& subsystem,
                                      const TransportAddress& address, bool waits) {
  auto attempt = [this, subsystem, address](const Context& context) -> absl::Status {
    if (!connections_.IsUsed(subsystem.controller)) return absl::OkStatus();
    return Attach(context, subsystem, address);
  };
  return nodes_.Restore(NodeOf(address), PathKey(subsystem.controller, address), attempt, waits);
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
    // Another path is enough for the device to go on.
    absl::Status status = RestorePath(subsystem, address, /*waits=*/!HasPath(name, nullptr));
    is_connected |= status.ok();
    if (!status.ok()) errors.push_back(std::string(status.message()));
  }
  if (is_connected || HasPath(name, nullptr)) return absl::OkStatus();
  return absl::UnavailableError(
      fmt::format("subsystem {} is not connected: {}", subsystem.subnqn, fmt::join(errors, "; ")));
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
  return connections_.Leave(context, volume, subsystem.controller);
}

absl::Status Controllers::EndAttempts(const Context& context, const Uuid& volume,
                                      const RemoteSubsystem& subsystem) {
  {
    absl::StatusOr<UseCounts::Held> held = connections_.Lock(context, subsystem.controller);
    if (!held.ok()) return held.status();
    const bool has_others = std::any_of(held->users().begin(), held->users().end(),
                                        [&](const Uuid& user) { return user != volume; });
    if (has_others) return absl::OkStatus();
  }
  for (const TransportAddress& address : subsystem.addresses) {
    nodes_.Cancel(PathKey(subsystem.controller, address));
  }
  return absl::OkStatus();
}

}  // namespace sma::volume
