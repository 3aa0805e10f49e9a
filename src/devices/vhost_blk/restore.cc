// SPDX-License-Identifier: Apache-2.0

// Compares devices with the target and their VMs, and recreates them.

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/hash/hash.h"
#include "agent/qmp/hot_plug.h"
#include "agent/spdk/call.h"
#include "devices/pci_common/inventories.h"
#include "devices/vhost_blk/params.h"
#include "devices/vhost_blk/vhost_blk_manager.h"

namespace sma::vhost_blk {

using jsonrpc::Request;
using pci_common::Inventories;
using pci_common::PlugState;

namespace {

// Number of bdevs queried in one round trip.
constexpr size_t kPortion = 128;

class Listing : public DeviceListing {
 public:
  Listing(std::vector<spdk::VhostBlkController> controllers, std::vector<spdk::Bdev> bdevs) {
    for (spdk::VhostBlkController& controller : controllers) {
      std::string name = controller.name;
      controllers_.emplace(std::move(name), std::move(controller));
    }
    for (spdk::Bdev& bdev : bdevs) {
      for (const std::string& alias : bdev.aliases) bdev_names_[alias] = bdev.name;
      bdev_names_[bdev.name] = bdev.name;
      if (!bdev.uuid) continue;
      identities_[bdev.name] = {.uuid = *bdev.uuid,
                                .hash = absl::HashOf(bdev.uuid->ToBytes(), bdev.aliases)};
    }
  }

  const std::map<std::string, spdk::VhostBlkController>& controllers() const {
    return controllers_;
  }
  std::optional<spdk::VhostBlkController> FindController(const std::string& name) const {
    auto found = controllers_.find(name);
    return found == controllers_.end() ? std::nullopt : std::optional(found->second);
  }
  /// Returns the name of the bdev with the name or alias `name`; nullopt if no controller uses it.
  std::optional<std::string> FindBdevName(const std::string& name) const {
    auto found = bdev_names_.find(name);
    return found == bdev_names_.end() ? std::nullopt : std::optional(found->second);
  }
  std::optional<base::Uuid> FindUuid(const std::string& bdev_name) const {
    auto found = identities_.find(bdev_name);
    return found == identities_.end() ? std::nullopt : std::optional(found->second.uuid);
  }
  /// Returns a number that depends on the controller, its bdev, and the bdev's UUID and aliases; 0
  /// if the controller has none, or does not exist.
  uint64_t FingerprintOf(const std::string& controller) const {
    auto found = controllers_.find(controller);
    if (found == controllers_.end()) return 0;
    auto bdev = identities_.find(found->second.bdev_name);
    if (bdev == identities_.end()) return 0;
    return std::max<uint64_t>(1, absl::HashOf(controller, bdev->first, bdev->second.hash));
  }
  Inventories& vms() const { return *vms_; }

 private:
  struct Identity {
    base::Uuid uuid;
    size_t hash = 0;  // of UUID and aliases
  };

  std::map<std::string, spdk::VhostBlkController> controllers_;
  std::map<std::string, std::string> bdev_names_;
  std::map<std::string, Identity> identities_;  // by the bdev's name
  const std::unique_ptr<Inventories> vms_ = std::make_unique<Inventories>();
};

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

// Queries only the bdevs of controllers, by name, because an answer with all bdevs may be larger
// than SPDK can send. The bdevs of the last listing are queried together with the controllers.
absl::StatusOr<std::unique_ptr<DeviceListing>> VhostBlkManager::List(const base::Context& context) {
  const uint64_t generation = target_.generation();
  std::set<std::string> asked = known_.Bdevs(kPortion);
  std::vector<Request> requests{spdk::GetVhostControllers()};
  for (const std::string& name : asked) requests.push_back(spdk::GetBdev(name));
  spdk::Results results = target_.CallMany(context, requests);
  if (!results[0].ok()) return results[0].status();
  absl::StatusOr<std::vector<spdk::VhostBlkController>> controllers =
      spdk::ParseVhostControllers(*results[0]);
  if (!controllers.ok()) return controllers.status();
  std::vector<spdk::Bdev> bdevs;
  absl::Status status = AddBdevs(std::span(results).subspan(1), bdevs);
  KnownControllers::BdevNames names;
  std::vector<std::string> wanted;
  for (const spdk::VhostBlkController& controller : *controllers) {
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

// A VM does not notify the agent when a device is plugged or unplugged, so devices in VMs have no
// fingerprint.
uint64_t VhostBlkManager::FingerprintOf(const DeviceListing& listing,
                                        std::string_view handle) const {
  const std::string name = ControllerNameOf(handle);
  std::optional<uint32_t> physical_id = PhysicalIdOf(name);
  if (!physical_id) return 0;
  absl::StatusOr<qmp::PciSlot> slot = options_.buses.Find(*physical_id);
  if (!slot.ok() || slot->vm) return 0;
  return static_cast<const Listing&>(listing).FingerprintOf(name);
}

absl::StatusOr<VhostBlkManager::State> VhostBlkManager::QueryState(const base::Context& context,
                                                                   const RestoreRequest& request) {
  std::vector<Request> requests{spdk::GetVhostController(ControllerName(request.device))};
  for (const DeviceVolume& volume : request.volumes) {
    requests.push_back(spdk::GetBdev(volume.bdev_name));
  }
  const spdk::Results results = target_.CallMany(context, requests);
  auto controller = spdk::ParseVhostController(results[0]);
  if (!controller.ok()) return controller.status();
  Inventories inventories;
  State state{.controller = *std::move(controller),
              .bdev_name = std::nullopt,
              .attachment = {},
              .plug = QueryPlug(context, request.device, inventories)};
  if (!request.volumes.empty()) state.attachment = request.volumes.front().attachment;
  if (results.size() > 1) {
    auto bdev = spdk::ParseBdev(results[1]);
    if (!bdev.ok()) return bdev.status();
    if (*bdev) state.bdev_name = (*bdev)->name;
  }
  return state;
}

// Returns the state according to a listing.
absl::StatusOr<VhostBlkManager::State> VhostBlkManager::StateFromListing(
    const base::Context& context, const RestoreRequest& request) const {
  const auto& listing = static_cast<const Listing&>(*request.listing);
  if (absl::Status status = SlotOf(request.device).status(); !status.ok()) return status;
  State state{.controller = listing.FindController(ControllerName(request.device)),
              .bdev_name = std::nullopt,
              .attachment = {},
              .plug = QueryPlug(context, request.device, listing.vms())};
  if (!request.volumes.empty()) {
    state.bdev_name = listing.FindBdevName(request.volumes.front().bdev_name);
    state.attachment = request.volumes.front().attachment;
  }
  return state;
}

RestoreResult VhostBlkManager::Restore(const base::Context& context,
                                       const RestoreRequest& request) {
  RestoreResult result;
  result.volumes.resize(request.volumes.size());
  absl::StatusOr<State> state = request.listing != nullptr ? StateFromListing(context, request)
                                                           : QueryState(context, request);
  // The listing contains only bdevs that a controller uses. For a controller that is to be created,
  // the bdev is queried with its creation.
  const bool is_bdev_unknown =
      request.listing != nullptr && state.ok() && state->controller && !state->bdev_name;
  if (is_bdev_unknown && !request.volumes.empty()) state = QueryState(context, request);
  absl::Status error;
  if (state.ok()) {
    result.differences = Differences(request.device, *state);
    if (!result.differences.empty() && request.repair) {
      State repaired = *state;
      error = Repair(context, request, repaired, result);
      if (error.ok()) {
        state = std::move(repaired);
      } else {
        state = QueryState(context, request);
      }
    }
  }
  SetResults(request, state, error, result);
  if (result.place.empty() && state.ok() && state->plug.ok() && state->plug->is_plugged) {
    result.place = pci_common::ToText(state->plug->place);
  }
  return result;
}

// Returns true if another client created a controller with this name: it has a bdev other than the
// volume's. If the volume's bdev no longer exists, its name at the controller's creation is
// compared.
bool VhostBlkManager::IsReplaced(const State& state) {
  const std::string expected = state.bdev_name.value_or(state.attachment);
  return state.controller && !state.controller->bdev_name.empty() && !expected.empty() &&
         state.controller->bdev_name != expected;
}

std::vector<std::string> VhostBlkManager::Differences(const DeviceSpec& device,
                                                      const State& state) {
  const std::string name = ControllerName(device);
  std::vector<std::string> words;
  if (!state.controller) {
    words.push_back(fmt::format("vhost controller {} is missing", name));
  } else if (state.controller->bdev_name.empty()) {
    words.push_back(fmt::format("the bdev of vhost controller {} no longer exists", name));
  } else if (IsReplaced(state)) {
    words.push_back(
        fmt::format("vhost controller {} has bdev {}", name, state.controller->bdev_name));
  }
  if (state.plug.ok() && !state.plug->is_plugged) {
    words.push_back(fmt::format("{} is not plugged into its VM", name));
  }
  return words;
}

// `state` is the state before the repair; on success, it is updated to the state afterwards.
absl::Status VhostBlkManager::Repair(const base::Context& context, const RestoreRequest& request,
                                     State& state, RestoreResult& result) {
  if (request.volumes.empty()) return absl::OkStatus();
  const std::string name = ControllerName(request.device);
  absl::StatusOr<qmp::PciSlot> slot = SlotOf(request.device);
  if (!slot.ok()) return slot.status();
  if (IsReplaced(state)) {
    return absl::AlreadyExistsError(
        fmt::format("vhost controller {} on the target is not the one that this agent created: it "
                    "has bdev {}",
                    name, state.controller->bdev_name));
  }
  // SPDK's controllers do not reopen a bdev that was removed.
  if (state.controller && state.controller->bdev_name.empty() && state.bdev_name) {
    if (state.plug.ok() && !state.plug->obstacle.ok()) return state.plug->obstacle;
    if (Outcome outcome = Remove(context, request.device); !outcome.ok()) return outcome.status();
    state.controller.reset();
    state.plug = PlugState{.is_plugged = !slot->vm, .place = {}};
  }
  if (!state.controller) {
    DeviceVolume volume = request.volumes.front();
    volume.wait = std::chrono::nanoseconds(0);
    OutcomeOr<std::string> made = MakeController(context, name, volume);
    if (!made.ok()) return made.status();
    result.volumes.front().attached_again = true;
    state.controller = spdk::VhostBlkController{.name = name, .bdev_name = *made};
    state.bdev_name = *std::move(made);
  }
  if (!state.plug.ok() || state.plug->is_plugged) return absl::OkStatus();
  if (absl::Status status = CheckPluggable(context, name, *state.plug); !status.ok()) return status;
  Outcome plugged = Plug(context, request.device, *slot, result.place);
  if (plugged.ok()) state.plug->is_plugged = true;
  return plugged.status();
}

// Returns an error if a device that its VM does not have must not be plugged into it. A session may
// be that of the VM's character device, which may be there without the device.
absl::Status VhostBlkManager::CheckPluggable(const base::Context& context,
                                             const std::string& controller, const PlugState& plug) {
  if (!plug.obstacle.ok()) return plug.obstacle;
  auto found = FindController(context, controller);
  if (!found.ok()) return found.status();
  if (!*found || (*found)->session_count <= (plug.has_chardev ? 1 : 0)) return absl::OkStatus();
  return absl::AlreadyExistsError(
      fmt::format("{} is not in its VM, but another VM is connected to it", controller));
}

void VhostBlkManager::SetResults(const RestoreRequest& request, const absl::StatusOr<State>& state,
                                 const absl::Status& error, RestoreResult& result) {
  const std::string name = ControllerName(request.device);
  auto missing = [&error](std::string what) {
    if (!error.ok()) what += fmt::format(": {}", std::string(error.message()));
    return absl::Status(error.ok() ? absl::StatusCode::kUnavailable : error.code(), what);
  };
  if (!state.ok()) {
    result.status = state.status();
  } else if (!state->controller) {
    result.status = missing(fmt::format("vhost controller {} is missing", name));
  } else if (!state->plug.ok()) {
    result.status = state->plug.status();
  } else if (!state->plug->is_plugged) {
    result.status = missing(fmt::format("{} is not plugged into its VM", name));
  } else {
    result.status = state->plug->obstacle;  // it is in another VM than configured
  }
  const bool has_volume = state.ok() && state->controller && state->bdev_name &&
                          state->controller->bdev_name == *state->bdev_name;
  for (size_t i = 0; i < request.volumes.size(); ++i) {
    if (i == 0 && has_volume) {
      result.volumes[i].attachment = *state->bdev_name;
      continue;
    }
    result.volumes[i].attachment =
        missing(fmt::format("volume {} is not the volume of {}", request.volumes[i].id.ToString(),
                            request.device.handle));
  }
}

std::vector<AdoptionCandidate> VhostBlkManager::ListAdoptionCandidates(
    const DeviceListing& listing, std::span<const std::string> known) const {
  const auto& listed = static_cast<const Listing&>(listing);
  std::vector<AdoptionCandidate> candidates;
  for (const auto& [name, controller] : listed.controllers()) {
    std::optional<uint32_t> physical_id = PhysicalIdOf(name);
    if (!physical_id) continue;
    const std::string handle = HandleOf(name);
    if (std::find(known.begin(), known.end(), handle) != known.end()) continue;
    AdoptionCandidate candidate;
    candidate.device.handle = handle;
    candidate.device.params.mutable_virtio_blk()->set_physical_id(*physical_id);
    absl::StatusOr<DeviceSpec> device = Describe(candidate.device.params);
    std::optional<base::Uuid> uuid = listed.FindUuid(controller.bdev_name);
    if (!device.ok()) {
      candidate.obstacle = std::string(device.status().message());
    } else if (!uuid) {
      candidate.obstacle = "its bdev no longer exists";
    } else {
      candidate.volumes.push_back(
          {.id = *uuid, .bdev_name = uuid->ToString(), .attachment = controller.bdev_name});
    }
    candidates.push_back(std::move(candidate));
  }
  return candidates;
}

}  // namespace sma::vhost_blk
