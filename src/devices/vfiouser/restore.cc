// SPDX-License-Identifier: Apache-2.0

// Compares devices with the target and their VMs, and recreates them.

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "agent/qmp/hot_plug.h"
#include "devices/nvmf_common/comparison.h"
#include "devices/pci_common/inventories.h"
#include "devices/vfiouser/params.h"
#include "devices/vfiouser/socket_folder.h"
#include "devices/vfiouser/vfiouser_manager.h"

namespace sma::vfiouser {

using nvmf_common::SubsystemListing;
using nvmf_common::SubsystemSpec;
using pci_common::Inventories;
using pci_common::PlugState;

namespace {

class Listing : public SubsystemListing {
 public:
  explicit Listing(SubsystemListing subsystems) : SubsystemListing(std::move(subsystems)) {}

  Inventories& vms() const { return *vms_; }

 private:
  const std::unique_ptr<Inventories> vms_ = std::make_unique<Inventories>();
};

absl::StatusOr<std::unique_ptr<DeviceListing>> WithVms(
    absl::StatusOr<std::unique_ptr<SubsystemListing>> subsystems) {
  if (!subsystems.ok()) return subsystems.status();
  return std::make_unique<Listing>(std::move(**subsystems));
}

}  // namespace

absl::StatusOr<std::unique_ptr<DeviceListing>> VfioUserManager::List(const base::Context& context) {
  return WithVms(subsystems_.List(context));
}

absl::StatusOr<std::unique_ptr<DeviceListing>> VfioUserManager::ListOf(
    const base::Context& context, std::span<const std::string> handles) {
  std::vector<std::string> nqns;
  for (const std::string& handle : handles) nqns.push_back(NqnOf(handle));
  return WithVms(subsystems_.ListOf(context, nqns));
}

// Returns true if the listener to which the VM is connected already existed before anything was
// restored.
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
    // The target creates the socket, but not the folder.
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
  absl::StatusOr<qmp::PciSlot> slot = SlotOf(request.device);
  if (!slot.ok()) return slot.status();
  if (!slot->vm) return absl::OkStatus();
  const std::string name = DeviceName(request.device);
  Inventories own;
  Inventories& inventories =
      request.listing != nullptr ? static_cast<const Listing&>(*request.listing).vms() : own;
  absl::StatusOr<PlugState> plug = QueryPlug(context, request.device, inventories);
  if (!plug.ok()) return plug.status();
  if (plug->is_plugged) result.place = pci_common::ToText(plug->place);
  if (!plug->is_plugged) {
    result.differences.push_back(fmt::format("{} is not plugged into its VM", name));
  }
  if (!plug->obstacle.ok()) return plug->obstacle;
  if (plug->is_plugged && was_listening) return absl::OkStatus();
  if (!request.repair)
    return absl::UnavailableError(fmt::format("{} is not plugged into its VM", name));
  // QEMU does not reconnect to a recreated listener, so the function is plugged again.
  if (Outcome outcome = Release(context, request.device); !outcome.ok()) return outcome.status();
  return Plug(context, request.device, /*is_recorded=*/true, result.place).status();
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
      candidate.obstacle = "its listener or its hosts differ from what this agent creates";
    }
    candidates.push_back(std::move(candidate));
  }
  return candidates;
}

}  // namespace sma::vfiouser
