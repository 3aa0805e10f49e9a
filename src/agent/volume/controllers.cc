#include "agent/volume/controllers.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "agent/spdk/call.h"

namespace sma::volume {

using base::Context;
using base::Uuid;
using spdk::Controller;
using spdk::TransportAddress;

namespace {

// How long a path that could not be connected is left alone while another one works.
constexpr std::chrono::seconds kRetryPeriod{20};

std::string FailureKey(const std::string& name, const TransportAddress& address) {
  return fmt::format("{} {} {}", name, address.traddr, address.trsvcid);
}

bool HasPath(const Controller& controller, const TransportAddress& address) {
  return std::any_of(
      controller.paths.begin(), controller.paths.end(),
      [&](const spdk::ControllerPath& path) { return spdk::SameAddress(path.address, address); });
}

}  // namespace

Outcome Controllers::Join(const Context& context, const Uuid& volume,
                          const RemoteSubsystem& subsystem, std::chrono::nanoseconds timeout) {
  const std::string name = NameOf(subsystem.subnqn);
  absl::StatusOr<UseCounts::Held> held = counts_.Lock(context, name);
  if (!held.ok()) return held.status();
  held->users().insert(volume);
  Controller controller =
      connected_.Find(target_.generation(), name).value_or(Controller{.name = name, .paths = {}});
  // One after the other: the first makes the controller, the others become paths to it. Each gets
  // its share of the time.
  const auto share = timeout / std::max<size_t>(subsystem.addresses.size(), 1);
  std::vector<std::string> errors;
  bool is_unknown = false;
  for (const TransportAddress& address : subsystem.addresses) {
    if (HasPath(controller, address)) continue;
    if (!controller.paths.empty() && FailedLately(name, address)) continue;
    Outcome outcome = Attach(context.Child(std::chrono::steady_clock::now() + share), subsystem,
                             address, controller);
    if (outcome.ok()) continue;
    if (context.done() || absl::IsUnavailable(outcome.status())) return outcome;
    is_unknown |= outcome.is_unknown();
    errors.push_back(
        fmt::format("{} port {}: {}", address.traddr, address.trsvcid, outcome.message()));
  }
  if (!errors.empty()) {
    spdlog::warn("subsystem {}: {}", subsystem.subnqn, fmt::join(errors, "; "));
  }
  if (!controller.paths.empty()) return absl::OkStatus();
  absl::Status status = absl::NotFoundError(fmt::format("subsystem {} could not be reached: {}",
                                                        subsystem.subnqn, fmt::join(errors, "; ")));
  return is_unknown ? Outcome::Unknown(std::move(status)) : status;
}

absl::Status Controllers::Attach(const Context& context, const RemoteSubsystem& subsystem,
                                 const TransportAddress& address, Controller& controller) {
  const uint64_t generation = target_.generation();
  const jsonrpc::Request request =
      spdk::AttachController(controller.name, address, subsystem.subnqn, subsystem.hostnqn);
  absl::Status status = target_.CallMany(context, {&request, 1}).front().status();
  base::MutexLock lock(mutex_);
  if (status.ok() || spdk::IsKnownPath(status)) {
    controller.paths.push_back({.address = address, .subnqn = subsystem.subnqn});
    connected_.Put(generation, controller.name, controller);
    failed_.erase(FailureKey(controller.name, address));
    return absl::OkStatus();
  }
  failed_[FailureKey(controller.name, address)] = std::chrono::steady_clock::now();
  return status;
}

bool Controllers::FailedLately(const std::string& name, const TransportAddress& address) const {
  base::MutexLock lock(mutex_);
  auto found = failed_.find(FailureKey(name, address));
  return found != failed_.end() && std::chrono::steady_clock::now() - found->second < kRetryPeriod;
}

absl::Status Controllers::Leave(const Context& context, const Uuid& volume,
                                const std::string& name) {
  absl::StatusOr<UseCounts::Held> held = counts_.Lock(context, name);
  if (!held.ok()) return held.status();
  held->users().erase(volume);
  if (!held->users().empty()) return absl::OkStatus();
  connected_.Remove(name);
  absl::Status status = spdk::DoToEnd(target_, context, spdk::DetachController(name));
  connected_.Remove(name);
  {
    base::MutexLock lock(mutex_);
    std::erase_if(failed_, [&](const auto& entry) { return entry.first.starts_with(name + " "); });
  }
  if (status.ok() || spdk::IsUnknownName(status)) return absl::OkStatus();
  held->users().insert(volume);
  return status;
}

absl::Status Controllers::Look(const Context& context) {
  const auto mark = connected_.mark(target_.generation());
  const jsonrpc::Request request = spdk::GetControllers();
  absl::StatusOr<jsonrpc::Json> answer = std::move(target_.CallMany(context, {&request, 1})[0]);
  if (!answer.ok()) return answer.status();
  absl::StatusOr<std::vector<Controller>> controllers = spdk::ParseControllers(*answer);
  if (!controllers.ok()) return controllers.status();
  std::map<std::string, Controller> by_name;
  for (Controller& controller : *controllers) {
    std::string name = controller.name;
    by_name.emplace(std::move(name), std::move(controller));
  }
  connected_.Replace(mark, std::move(by_name));
  return absl::OkStatus();
}

}  // namespace sma::volume
