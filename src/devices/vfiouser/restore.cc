// How devices are compared with the target and their machines, and made again.

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <thread>
#include <utility>

#include "agent/qmp/hot_plug.h"
#include "devices/nvmf_common/comparison.h"
#include "devices/vfiouser/params.h"
#include "devices/vfiouser/socket_folder.h"
#include "devices/vfiouser/vfiouser_manager.h"

namespace sma::vfiouser {

using nvmf_common::SubsystemListing;
using nvmf_common::SubsystemSpec;

namespace {

using Inventories = std::map<const qmp::Client*, absl::StatusOr<qmp::Inventory>>;

class Listing : public SubsystemListing {
 public:
  Listing(SubsystemListing subsystems, Inventories machines)
      : SubsystemListing(std::move(subsystems)), machines_(std::move(machines)) {}

  absl::StatusOr<bool> IsPlugged(const qmp::Client& machine, const std::string& id) const {
    auto found = machines_.find(&machine);
    if (found == machines_.end()) return absl::InternalError("machine not listed");
    if (!found->second.ok()) return found->second.status();
    return found->second->devices.contains(id);
  }

 private:
  Inventories machines_;
};

// A machine that cannot be reached takes its time to be known as such, so all are asked at once.
Inventories TakeInventories(const base::Context& context, const qmp::Buses& buses) {
  const std::vector<std::shared_ptr<qmp::Client>> machines = buses.machines();
  std::vector<absl::StatusOr<qmp::Inventory>> taken(machines.size());
  std::vector<std::thread> threads;
  for (size_t i = 0; i < machines.size(); ++i) {
    threads.emplace_back([&, i] { taken[i] = qmp::TakeInventory(*machines[i], context); });
  }
  for (std::thread& thread : threads) thread.join();
  Inventories inventories;
  for (size_t i = 0; i < machines.size(); ++i) {
    inventories.emplace(machines[i].get(), std::move(taken[i]));
  }
  return inventories;
}

}  // namespace

absl::StatusOr<std::unique_ptr<DeviceListing>> VfioUserManager::List(const base::Context& context) {
  absl::StatusOr<std::unique_ptr<SubsystemListing>> subsystems = subsystems_.List(context);
  if (!subsystems.ok()) return subsystems.status();
  return std::make_unique<Listing>(std::move(**subsystems),
                                   TakeInventories(context, options_.buses));
}

// Whether the listener that the machine is connected to was there before anything was restored.
absl::StatusOr<bool> VfioUserManager::IsListening(const base::Context& context,
                                                  const RestoreRequest& request) {
  const SubsystemSpec spec = SubsystemOf(request.device);
  if (request.listing != nullptr) {
    const auto& listing = static_cast<const SubsystemListing&>(*request.listing);
    return !nvmf_common::FindMissing(spec, listing.Find(spec.nqn)).listener;
  }
  absl::StatusOr<std::optional<spdk::Subsystem>> found =
      spdk::FindSubsystem(target_, context, spec.nqn);
  if (!found.ok()) return found.status();
  return !nvmf_common::FindMissing(spec, *found ? &**found : nullptr).listener;
}

RestoreResult VfioUserManager::Restore(const base::Context& context,
                                       const RestoreRequest& request) {
  const std::string folder = FolderOf(request.device);
  absl::StatusOr<bool> was_listening = IsListening(context, request);
  if (was_listening.ok() && request.repair) {
    // The target makes the socket, not the folder.
    if (absl::StatusOr<bool> made = MakeFolder(folder); !made.ok()) was_listening = made.status();
  }
  RestoreResult result = subsystems_.Restore(context, SubsystemOf(request.device), request);
  if (!was_listening.ok()) result.status = was_listening.status();
  if (!result.status.ok()) return result;
  result.status = RestorePlug(context, request, *was_listening, result);
  return result;
}

absl::Status VfioUserManager::RestorePlug(const base::Context& context,
                                          const RestoreRequest& request, bool was_listening,
                                          RestoreResult& result) {
  absl::StatusOr<qmp::Place> place = PlaceOf(request.device);
  if (!place.ok()) return place.status();
  if (!place->machine) return absl::OkStatus();
  const std::string name = DeviceName(request.device);
  absl::StatusOr<bool> plugged =
      request.listing != nullptr
          ? static_cast<const Listing&>(*request.listing).IsPlugged(*place->machine, name)
          : IsPlugged(context, request.device);
  if (!plugged.ok()) return plugged.status();
  if (*plugged && was_listening) return absl::OkStatus();
  if (!*plugged) result.differences.push_back(fmt::format("{} is not in its machine", name));
  if (!request.repair) return absl::UnavailableError(fmt::format("{} is not in its machine", name));
  // QEMU does not connect again to a listener that has gone: the function is plugged anew.
  if (*plugged) {
    if (Outcome outcome = Release(context, request.device); !outcome.ok()) return outcome.status();
  }
  return Plug(context, request.device).status();
}

std::vector<AdoptionCandidate> VfioUserManager::ListAdoptionCandidates(
    const DeviceListing& listing, std::span<const std::string> known) const {
  std::vector<AdoptionCandidate> candidates;
  for (const auto& [nqn, subsystem] : static_cast<const Listing&>(listing).subsystems()) {
    std::optional<uint32_t> physical_id = PhysicalIdOf(nqn);
    if (!physical_id) continue;
    const std::string handle = HandleOf(*physical_id);
    if (std::find(known.begin(), known.end(), handle) != known.end()) continue;
    AdoptionCandidate candidate;
    candidate.device.handle = handle;
    candidate.device.params.mutable_nvme()->set_physical_id(*physical_id);
    candidate.volumes = nvmf_common::VolumesOf(subsystem);
    candidate.device.mark = subsystem.serial_number;
    absl::StatusOr<DeviceSpec> device = Describe(candidate.device.params);
    if (!device.ok()) {
      candidate.obstacle = std::string(device.status().message());
    } else if (!nvmf_common::IsEqual(SubsystemOf(*device), subsystem)) {
      candidate.obstacle = "its listener or its hosts are not as this agent makes them";
    }
    candidates.push_back(std::move(candidate));
  }
  return candidates;
}

}  // namespace sma::vfiouser
