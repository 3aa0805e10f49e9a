// SPDX-License-Identifier: Apache-2.0

#include "devices/vhost_blk/controllers.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <set>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/spdk/call.h"
#include "jsonrpc/error.h"

namespace sma::vhost_blk {

using jsonrpc::Request;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

namespace {

// Number of bdevs queried in one round trip.
constexpr size_t kPortion = 128;

// The first and the longest pause before a request for a busy controller is repeated; the pause
// doubles each time.
constexpr milliseconds kMinBusyPause{5};
constexpr milliseconds kMaxBusyPause{200};

absl::Status InUse(const base::Uuid& volume, std::string_view user) {
  return absl::AlreadyExistsError(
      fmt::format("volume {} is in use by {} on the target", volume.ToString(), user));
}

// Adds the bdevs that exist.
absl::Status AddBdevs(std::span<const absl::StatusOr<jsonrpc::Json>> answers,
                      std::vector<spdk::Bdev>& bdevs) {
  for (const auto& answer : answers) {
    absl::StatusOr<std::optional<spdk::Bdev>> bdev = spdk::ParseBdev(answer);
    if (!bdev.ok()) return bdev.status();
    if (*bdev) bdevs.push_back(**std::move(bdev));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::optional<spdk::VhostController>> Controllers::Find(
    const base::Context& context, const std::string& controller) {
  const jsonrpc::Request request = spdk::GetVhostController(controller);
  return spdk::ParseVhostController(target_.Call(context, request));
}

absl::StatusOr<std::optional<spdk::VhostController>> Controllers::FindUnlessAbsent(
    const base::Context& context, const std::string& name) {
  if (known_.IsAbsent(target_.generation(), name)) return std::nullopt;
  return Find(context, name);
}

// Queries only the bdevs of controllers, by name, because an answer with all bdevs may be larger
// than SPDK can send. The bdevs of the last listing are queried together with the controllers.
absl::StatusOr<std::unique_ptr<Listing>> Controllers::List(const base::Context& context) {
  const uint64_t generation = target_.generation();
  std::set<std::string> asked = known_.Bdevs(kPortion);
  std::vector<Request> requests{spdk::GetVhostControllers()};
  for (const std::string& name : asked) requests.push_back(spdk::GetBdev(name));
  spdk::Results results = target_.CallMany(context, requests);
  if (!results[0].ok()) return results[0].status();
  absl::StatusOr<std::vector<spdk::VhostController>> controllers =
      spdk::ParseVhostControllers(*results[0]);
  if (!controllers.ok()) return controllers.status();
  std::vector<spdk::Bdev> bdevs;
  absl::Status status = AddBdevs(std::span(results).subspan(1), bdevs);
  KnownControllers::BdevNames names;
  std::vector<std::string> wanted;
  for (const spdk::VhostController& controller : *controllers) {
    const std::string& name = controller.bdev_name;
    names.emplace(controller.name, name);
    if (!name.empty() && asked.insert(name).second) wanted.push_back(name);
  }
  for (size_t begin = 0; status.ok() && begin < wanted.size(); begin += kPortion) {
    requests.clear();
    for (size_t i = begin; i < std::min(begin + kPortion, wanted.size()); ++i) {
      requests.push_back(spdk::GetBdev(wanted[i]));
    }
    status = AddBdevs(target_.CallMany(context, requests), bdevs);
  }
  if (!status.ok()) return status;
  if (target_.generation() == generation) known_.Replace(generation, std::move(names));
  return std::make_unique<Listing>(*std::move(controllers), std::move(bdevs));
}

// The query before the creation shows whether the controller existed, whatever becomes of the
// creation. The listing after it shows whether the bdev has another controller. Returns the name of
// the controller's bdev.
OutcomeOr<std::string> Controllers::Make(const base::Context& context, const std::string& name,
                                         const DeviceVolume& volume) {
  std::vector<Request> requests{
      spdk::GetBdev(volume.bdev_name), spdk::GetVhostController(name),
      spdk::CreateVhostBlkController(name, volume.bdev_name, options_.packed_ring)};
  if (known_.NeedsListing()) requests.push_back(spdk::GetVhostControllers());
  const spdk::Results results = spdk::CallToEnd(target_, context, requests);
  absl::StatusOr<std::optional<spdk::Bdev>> bdev = spdk::ParseBdev(results[0]);
  const auto before = spdk::ParseVhostController(results[1]);
  const absl::Status& refusal = results[2].status();
  if (!refusal.ok()) {
    const bool existed = before.ok() && *before;
    if (existed) known_.AddOthers(name);
    Outcome outcome = existed ? Outcome::NotDone(refusal) : Outcome(refusal);
    if (outcome.is_unknown()) known_.Add(name, "");
    if (!jsonrpc::GetTargetError(refusal)) return outcome;
    if (!bdev.ok()) return Outcome::NotDone(bdev.status());
    return WhyRefused(context, name, volume, *bdev, refusal);
  }
  const std::string bdev_name = bdev.ok() && *bdev ? (*bdev)->name : std::string();
  known_.AddMade(name, bdev_name);
  absl::Status status;
  if (bdev_name.empty()) {
    status = absl::UnavailableError(
        fmt::format("volume {} was removed from the target", volume.id.ToString()));
  } else if (results.size() > 3) {
    status = NoteListing(results[3]);
  }
  if (status.ok()) status = CheckOtherUsers(context, name, bdev_name, volume.id);
  if (status.ok()) return bdev_name;
  const Outcome undone = Delete(spdk::UndoContext(), name);
  if (!undone.ok()) {
    spdlog::warn("{}: rollback failed, will retry: {}", name, undone.message());
  }
  return Outcome(std::move(status)).AfterUndo(undone);
}

absl::Status Controllers::NoteListing(const absl::StatusOr<jsonrpc::Json>& answer) {
  if (!answer.ok()) return answer.status();
  absl::StatusOr<std::vector<spdk::VhostController>> controllers =
      spdk::ParseVhostControllers(*answer);
  if (!controllers.ok()) return controllers.status();
  KnownControllers::BdevNames names;
  for (spdk::VhostController& controller : *controllers) {
    names.emplace(std::move(controller.name), std::move(controller.bdev_name));
  }
  known_.Merge(names);
  return absl::OkStatus();
}

// The target permits any number of controllers for one bdev. Those that were known to use the bdev
// are queried, because they may have been deleted since.
absl::Status Controllers::CheckOtherUsers(const base::Context& context, const std::string& name,
                                          const std::string& bdev_name, const base::Uuid& volume) {
  while (std::optional<std::string> other = known_.OtherUserOf(bdev_name, name)) {
    absl::StatusOr<std::optional<spdk::VhostController>> there = Find(context, *other);
    if (!there.ok()) return there.status();
    if (*there && (*there)->bdev_name == bdev_name) {
      return InUse(volume, "vhost controller " + *other);
    }
    known_.Remove(*other);
    if (*there) known_.Add(*other, (*there)->bdev_name);
  }
  return absl::OkStatus();
}

// Returns ALREADY_EXISTS if another controller uses the bdev of an existing controller.
absl::Status Controllers::CheckOnlyUser(const base::Context& context, const std::string& name,
                                        const spdk::Bdev& bdev) {
  absl::Status status = NoteListing(target_.Call(context, spdk::GetVhostControllers()));
  return status.ok() ? CheckOtherUsers(context, name, bdev.name, *bdev.uuid) : status;
}

OutcomeOr<std::string> Controllers::WhyRefused(const base::Context& context,
                                               const std::string& name, const DeviceVolume& volume,
                                               const std::optional<spdk::Bdev>& bdev,
                                               const absl::Status& refusal) {
  if (spdk::IsVhostControllerExisting(refusal)) {
    known_.AddOthers(name);
    return absl::AlreadyExistsError(fmt::format(
        "vhost controller {} exists on the target and was not created by this agent", name));
  }
  if (!bdev && volume.wait > std::chrono::nanoseconds(0)) {
    auto found = spdk::FindBdev(target_, context, volume.bdev_name, volume.wait);
    if (!found.ok()) return Outcome::NotDone(found.status());
    DeviceVolume there = volume;
    there.wait = std::chrono::nanoseconds(0);
    if (*found) return Make(context, name, there);
  }
  if (!bdev) {
    return absl::NotFoundError(
        fmt::format("volume {} was not found on the target", volume.id.ToString()));
  }
  if (bdev->claimed) return InUse(volume.id, "another user");
  return absl::InternalError(fmt::format("the target refused volume {}: {}", volume.id.ToString(),
                                         std::string(refusal.message())));
}

absl::Status Controllers::Delete(const base::Context& context, const std::string& name) {
  const base::TimePoint until = steady_clock::now() + options_.busy_wait;
  milliseconds pause = kMinBusyPause;
  while (true) {
    absl::Status status = spdk::DoToEnd(target_, context, spdk::DeleteVhostController(name));
    if (status.ok() || spdk::IsNoSuchVhostDevice(status)) {
      known_.Remove(name);
      return absl::OkStatus();
    }
    if (!spdk::IsVhostControllerBusy(status)) return status;
    if (steady_clock::now() >= until) {
      return absl::UnavailableError(
          fmt::format("a VM is still connected to vhost controller {}", name));
    }
    absl::Status ended = context.SleepUntil(steady_clock::now() + pause);
    if (!ended.ok()) return ended;
    pause = std::min(2 * pause, kMaxBusyPause);
  }
}

absl::StatusOr<bool> Controllers::IsOfFailedCreate(const base::Context& context,
                                                   const std::string& name,
                                                   const DeviceVolume* volume) {
  absl::StatusOr<std::optional<spdk::VhostController>> controller = Find(context, name);
  if (!controller.ok()) return controller.status();
  if (!*controller) return true;
  if (known_.IsOthers(name)) {
    spdlog::warn("{}: not removed, it existed before a failed CreateDevice", name);
    return false;
  }
  if (volume == nullptr || (*controller)->bdev_name.empty()) return true;
  auto bdev = spdk::FindBdev(target_, context, volume->bdev_name, {});
  if (!bdev.ok()) return bdev.status();
  if (*bdev && (*bdev)->name == (*controller)->bdev_name) return true;
  spdlog::warn(
      "{}: not removed, because it has a different bdev than the failed CreateDevice requested",
      name);
  known_.Add(name, (*controller)->bdev_name);
  return false;
}

}  // namespace sma::vhost_blk
