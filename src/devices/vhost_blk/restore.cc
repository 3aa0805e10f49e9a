// How devices are compared with target and machines, and made again.

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "agent/qmp/hot_plug.h"
#include "agent/spdk/call.h"
#include "devices/pci_common/inventories.h"
#include "devices/vhost_blk/params.h"
#include "devices/vhost_blk/vhost_blk_manager.h"

namespace sma::vhost_blk {

using jsonrpc::Request;
using pci_common::Inventories;

namespace {

class Listing : public DeviceListing {
 public:
  Listing(std::vector<spdk::VhostBlkController> controllers, std::vector<spdk::Bdev> bdevs,
          Inventories vms)
      : vms_(std::move(vms)) {
    for (spdk::VhostBlkController& controller : controllers) {
      std::string name = controller.name;
      controllers_.emplace(std::move(name), std::move(controller));
    }
    for (spdk::Bdev& bdev : bdevs) {
      for (const std::string& alias : bdev.aliases) bdev_names_[alias] = bdev.name;
      bdev_names_[bdev.name] = bdev.name;
      if (bdev.uuid) uuids_[bdev.name] = *bdev.uuid;
    }
  }

  const std::map<std::string, spdk::VhostBlkController>& controllers() const {
    return controllers_;
  }
  std::optional<spdk::VhostBlkController> FindController(const std::string& name) const {
    auto found = controllers_.find(name);
    return found == controllers_.end() ? std::nullopt : std::optional(found->second);
  }
  /// The own name of a bdev that `name` is name or alias of.
  std::optional<std::string> FindBdevName(const std::string& name) const {
    auto found = bdev_names_.find(name);
    return found == bdev_names_.end() ? std::nullopt : std::optional(found->second);
  }
  std::optional<base::Uuid> FindUuid(const std::string& bdev_name) const {
    auto found = uuids_.find(bdev_name);
    return found == uuids_.end() ? std::nullopt : std::optional(found->second);
  }
  const Inventories& vms() const { return vms_; }

 private:
  std::map<std::string, spdk::VhostBlkController> controllers_;
  std::map<std::string, std::string> bdev_names_;
  std::map<std::string, base::Uuid> uuids_;
  Inventories vms_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<DeviceListing>> VhostBlkManager::List(const base::Context& context) {
  const uint64_t generation = target_.generation();
  const Request requests[] = {spdk::GetVhostControllers(), spdk::GetBdevs()};
  const spdk::Results results = target_.CallMany(context, requests);
  for (const auto& result : results) {
    if (!result.ok()) return result.status();
  }
  absl::StatusOr<std::vector<spdk::VhostBlkController>> controllers =
      spdk::ParseVhostControllers(*results[0]);
  if (!controllers.ok()) return controllers.status();
  absl::StatusOr<std::vector<spdk::Bdev>> bdevs = spdk::ParseBdevs(*results[1]);
  if (!bdevs.ok()) return bdevs.status();
  KnownControllers::BdevNames names;
  for (const spdk::VhostBlkController& controller : *controllers) {
    names.emplace(controller.name, controller.bdev_name);
  }
  if (target_.generation() == generation) known_.Replace(generation, std::move(names));
  return std::make_unique<Listing>(*std::move(controllers), *std::move(bdevs),
                                   Inventories::Take(context, options_.buses));
}

absl::StatusOr<bool> VhostBlkManager::IsPlugged(const base::Context& context,
                                                const DeviceSpec& device) const {
  absl::StatusOr<qmp::Place> place = options_.buses.Find(device.params.virtio_blk().physical_id());
  if (!place.ok()) return place.status();
  if (!place->machine) return true;
  absl::StatusOr<qmp::Inventory> inventory = qmp::TakeInventory(*place->machine, context);
  if (!inventory.ok()) return inventory.status();
  return inventory->devices.contains(ControllerName(device));
}

absl::StatusOr<VhostBlkManager::State> VhostBlkManager::Look(const base::Context& context,
                                                             const RestoreRequest& request) {
  std::vector<Request> requests{spdk::GetVhostController(ControllerName(request.device))};
  for (const DeviceVolume& volume : request.volumes) {
    requests.push_back(spdk::GetBdev(volume.bdev_name));
  }
  const spdk::Results results = target_.CallMany(context, requests);
  auto controller = spdk::ParseVhostController(results[0]);
  if (!controller.ok()) return controller.status();
  State state{.controller = *std::move(controller),
              .bdev_name = std::nullopt,
              .plugged = IsPlugged(context, request.device)};
  if (results.size() > 1) {
    auto bdev = spdk::ParseBdev(results[1]);
    if (!bdev.ok()) return bdev.status();
    if (*bdev) state.bdev_name = (*bdev)->name;
  }
  return state;
}

// What a listing tells.
absl::StatusOr<VhostBlkManager::State> VhostBlkManager::LookUp(
    const RestoreRequest& request) const {
  const auto& listing = static_cast<const Listing&>(*request.listing);
  absl::StatusOr<qmp::Place> place =
      options_.buses.Find(request.device.params.virtio_blk().physical_id());
  if (!place.ok()) return place.status();
  const std::string name = ControllerName(request.device);
  State state{.controller = listing.FindController(name),
              .bdev_name = std::nullopt,
              .plugged = place->machine ? listing.vms().IsPlugged(*place->machine, name)
                                        : absl::StatusOr<bool>(true)};
  if (!request.volumes.empty()) {
    state.bdev_name = listing.FindBdevName(request.volumes.front().bdev_name);
  }
  return state;
}

RestoreResult VhostBlkManager::Restore(const base::Context& context,
                                       const RestoreRequest& request) {
  RestoreResult result;
  result.volumes.resize(request.volumes.size());
  absl::StatusOr<State> state =
      request.listing != nullptr ? LookUp(request) : Look(context, request);
  absl::Status error;
  if (state.ok()) {
    result.differences = Differences(request.device, *state);
    if (!result.differences.empty() && request.repair) {
      error = Repair(context, request, *state, result);
      state = Look(context, request);
    }
  }
  Judge(request, state, error, result);
  return result;
}

// Somebody else created a controller of this name: it has another bdev than the volume's.
bool VhostBlkManager::IsReplaced(const State& state) {
  return state.controller && !state.controller->bdev_name.empty() && state.bdev_name &&
         state.controller->bdev_name != *state.bdev_name;
}

std::vector<std::string> VhostBlkManager::Differences(const DeviceSpec& device,
                                                      const State& state) {
  const std::string name = ControllerName(device);
  std::vector<std::string> words;
  if (!state.controller) {
    words.push_back(fmt::format("vhost controller {} is missing", name));
  } else if (state.controller->bdev_name.empty()) {
    words.push_back(fmt::format("the bdev of vhost controller {} is gone", name));
  } else if (IsReplaced(state)) {
    words.push_back(
        fmt::format("vhost controller {} has bdev {}", name, state.controller->bdev_name));
  }
  if (state.plugged.ok() && !*state.plugged) {
    words.push_back(fmt::format("{} is not in its machine", name));
  }
  return words;
}

absl::Status VhostBlkManager::Repair(const base::Context& context, const RestoreRequest& request,
                                     State state, RestoreResult& result) {
  if (request.volumes.empty()) return absl::OkStatus();
  const std::string name = ControllerName(request.device);
  absl::StatusOr<qmp::Place> place =
      options_.buses.Find(request.device.params.virtio_blk().physical_id());
  if (!place.ok()) return place.status();
  if (IsReplaced(state)) {
    return absl::AlreadyExistsError(
        fmt::format("vhost controller {} on the target is not the one that this agent created: it "
                    "has bdev {}",
                    name, state.controller->bdev_name));
  }
  // SPDK's controllers do not take back a bdev that was gone.
  if (state.controller && state.controller->bdev_name.empty() && state.bdev_name) {
    if (Outcome outcome = Remove(context, request.device); !outcome.ok()) return outcome.status();
    state.controller.reset();
    state.plugged = !place->machine;
  }
  if (!state.controller) {
    DeviceVolume volume = request.volumes.front();
    volume.wait = std::chrono::nanoseconds(0);
    OutcomeOr<bool> made = MakeController(context, name, volume);
    if (!made.ok()) return made.status();
    result.volumes.front().attached_again = true;
  }
  if (!state.plugged.ok() || *state.plugged) return absl::OkStatus();
  return Plug(context, name, *place).status();
}

void VhostBlkManager::Judge(const RestoreRequest& request, const absl::StatusOr<State>& state,
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
  } else if (!state->plugged.ok()) {
    result.status = state->plugged.status();
  } else if (!*state->plugged) {
    result.status = missing(fmt::format("{} is not in its machine", name));
  }
  const bool has_volume = state.ok() && state->controller && state->bdev_name &&
                          state->controller->bdev_name == *state->bdev_name;
  for (size_t i = 0; i < request.volumes.size(); ++i) {
    if (i == 0 && has_volume) continue;
    result.volumes[i].attachment = missing(fmt::format(
        "volume {} is not that of {}", request.volumes[i].id.ToString(), request.device.handle));
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
      candidate.obstacle = "its bdev is gone";
    } else {
      candidate.volumes.push_back({.id = *uuid, .bdev_name = uuid->ToString(), .attachment = ""});
    }
    candidates.push_back(std::move(candidate));
  }
  return candidates;
}

}  // namespace sma::vhost_blk
