// SPDX-License-Identifier: Apache-2.0

#include "devices/vfiouser/vfiouser_manager.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "devices/nvmf_common/comparison.h"
#include "devices/pci_common/inventories.h"
#include "devices/vfiouser/params.h"
#include "devices/vfiouser/socket_folder.h"

namespace sma::vfiouser {

using nvmf_common::SubsystemListing;
using nvmf_common::SubsystemSpec;
using pci_common::Inventories;
using pci_common::PlugState;

namespace {

// How long to wait for a folder to become empty when its subsystem is deleted, and how often to
// check.
constexpr std::chrono::milliseconds kSocketWait{500};
constexpr std::chrono::milliseconds kSocketPause{10};

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

absl::StatusOr<DeviceSpec> VfioUserManager::Describe(const CreateDeviceRequest& request) const {
  const nvme::DeviceParameters& params = request.nvme();
  if (params.virtual_id() != 0) {
    return absl::InvalidArgumentError(fmt::format(
        "nvme.virtual_id: {}: virtual functions are not supported", params.virtual_id()));
  }
  DeviceSpec device;
  device.handle = HandleOf(params.physical_id());
  device.params.mutable_nvme()->set_physical_id(params.physical_id());
  absl::StatusOr<qmp::PciSlot> slot = functions_.SlotOf(device);
  if (!slot.ok()) {
    return absl::InvalidArgumentError(fmt::format("nvme.{}", std::string(slot.status().message())));
  }
  device.mark = nvmf_common::NewSerialNumber();
  device.place = pci_common::ToText(pci_common::PlaceOf(*slot, {}));
  return device;
}

std::string VfioUserManager::NeighbourOf(const DeviceSpec& device) const {
  return pci_common::NeighbourOf(device.place, functions_.SlotOf(device));
}

bool VfioUserManager::OwnsHandle(std::string_view handle) const { return IsHandle(handle); }

SubsystemSpec VfioUserManager::SubsystemOf(const DeviceSpec& device) const {
  return SpecOf(device, functions_.FolderOf(device));
}

absl::Status VfioUserManager::Prepare(const base::Context& context) {
  return subsystems_.Prepare(context);
}

absl::StatusOr<std::optional<ExistingDevice>> VfioUserManager::FindExisting(
    const base::Context& context, const DeviceSpec& device) {
  auto existing = subsystems_.FindExisting(context, SubsystemOf(device));
  if (!existing.ok()) return existing;
  absl::StatusOr<qmp::PciSlot> slot = functions_.SlotOf(device);
  if (!slot.ok()) return slot.status();
  Inventories inventories;
  absl::StatusOr<PlugState> plug = functions_.Query(context, device, inventories);
  if (!plug.ok()) return plug.status();
  if (!plug->obstacle.ok()) return plug->obstacle;
  if (!*existing) {
    if (slot->vm && plug->is_plugged) return VmFunctions::NotPluggedHere(DeviceName(device));
    return existing;
  }
  if (!plug->is_plugged) {
    return absl::AlreadyExistsError(fmt::format(
        "subsystem {} exists on the target, but is not plugged into a VM", NqnOf(device)));
  }
  return existing;
}

OutcomeOr<CreatedDevice> VfioUserManager::CreateDevice(const base::Context& context,
                                                       const DeviceSpec& device,
                                                       const DeviceVolume* volume) {
  absl::StatusOr<bool> made = MakeFolder(functions_.FolderOf(device));
  if (!made.ok()) return made.status();
  OutcomeOr<std::string> attachment = subsystems_.Create(context, SubsystemOf(device), volume);
  if (!attachment.ok()) {
    // If the outcome is unknown, the subsystem may still exist, and its folder is kept.
    if (*made && !attachment.outcome().is_unknown()) {
      RemoveFolderOf(spdk::UndoContext(), device).IgnoreError();
    }
    return attachment.outcome();
  }
  CreatedDevice created{.handle = device.handle, .attachment = *std::move(attachment)};
  Outcome outcome = functions_.Plug(context, device, /*is_recorded=*/false, created.place);
  const bool plugged = outcome.ok() || outcome.is_unknown();
  if (outcome.ok()) outcome = context.status();
  if (!outcome.ok()) return Undo(std::move(outcome), device, *made, plugged);
  return created;
}

// Rolls back a CreateDevice that failed with `why`. Returns an unknown outcome if something may
// remain.
Outcome VfioUserManager::Undo(Outcome why, const DeviceSpec& device, bool made_folder,
                              bool plugged) {
  Outcome undone;
  if (plugged) undone = functions_.Release(spdk::UndoContext(), device);
  if (undone.ok()) undone = subsystems_.Delete(spdk::UndoContext(), SubsystemOf(device));
  if (undone.ok() && made_folder) undone = RemoveFolderOf(spdk::UndoContext(), device);
  if (!undone.ok()) {
    spdlog::warn("{}: rollback failed, will retry: {}", device.handle, undone.message());
  }
  return std::move(why).AfterUndo(undone);
}

Outcome VfioUserManager::UndoCreate(const base::Context& context, const DeviceSpec& device,
                                    const DeviceVolume* volume) {
  const SubsystemSpec spec = SubsystemOf(device);
  absl::StatusOr<std::optional<spdk::Subsystem>> found =
      spdk::FindSubsystem(target_, context, spec.nqn);
  if (!found.ok()) return found.status();
  if (*found && !nvmf_common::IsOwned(spec, **found)) {
    // Only a subsystem that was created is plugged into a VM.
    Outcome outcome = subsystems_.UndoCreate(context, spec, volume);
    return outcome.ok() ? RemoveFolderOf(context, device) : outcome;
  }
  if (*found && !nvmf_common::IsPartOf(**found, spec, volume)) {
    spdlog::warn(
        "{}: not removed, because it has parts that the failed CreateDevice did not create",
        spec.nqn);
    return absl::OkStatus();
  }
  return Remove(context, device);
}

Outcome VfioUserManager::DeleteDevice(const base::Context& context, const DeviceSpec& device,
                                      std::span<const DeviceVolume> /*volumes*/) {
  // The function in the VM belongs to the subsystem, which may belong to another client by now.
  const SubsystemSpec spec = SubsystemOf(device);
  absl::StatusOr<std::optional<spdk::Subsystem>> found =
      spdk::FindSubsystem(target_, context, spec.nqn);
  if (!found.ok()) return found.status();
  if (*found && !nvmf_common::IsOwned(spec, **found)) return subsystems_.Delete(context, spec);
  return Remove(context, device);
}

Outcome VfioUserManager::Remove(const base::Context& context, const DeviceSpec& device) {
  if (Outcome outcome = functions_.Release(context, device); !outcome.ok()) return outcome;
  if (Outcome outcome = subsystems_.Delete(context, SubsystemOf(device)); !outcome.ok())
    return outcome;
  return RemoveFolderOf(context, device);
}

// A target may answer before it has removed its socket.
absl::Status VfioUserManager::RemoveFolderOf(const base::Context& context,
                                             const DeviceSpec& device) {
  const base::TimePoint until = std::chrono::steady_clock::now() + kSocketWait;
  while (true) {
    absl::StatusOr<bool> gone = RemoveFolder(functions_.FolderOf(device));
    if (!gone.ok()) return gone.status();
    if (*gone) return absl::OkStatus();
    const base::TimePoint now = std::chrono::steady_clock::now();
    if (now >= until) break;
    if (absl::Status ended = context.SleepUntil(now + kSocketPause); !ended.ok()) return ended;
  }
  spdlog::warn("{}: not removed, because it contains other files", functions_.FolderOf(device));
  return absl::OkStatus();
}

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
  const std::string folder = functions_.FolderOf(request.device);
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
  absl::StatusOr<qmp::PciSlot> slot = functions_.SlotOf(request.device);
  if (!slot.ok()) return slot.status();
  if (!slot->vm) return absl::OkStatus();
  const std::string name = DeviceName(request.device);
  Inventories own;
  Inventories& inventories =
      request.listing != nullptr ? static_cast<const Listing&>(*request.listing).vms() : own;
  absl::StatusOr<PlugState> plug = functions_.Query(context, request.device, inventories);
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
  if (Outcome outcome = functions_.Release(context, request.device); !outcome.ok())
    return outcome.status();
  return functions_.Plug(context, request.device, /*is_recorded=*/true, result.place).status();
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

OutcomeOr<std::string> VfioUserManager::AttachVolume(const base::Context& context,
                                                     const DeviceSpec& device,
                                                     const DeviceVolume& volume) {
  return subsystems_.Attach(context, SubsystemOf(device), volume);
}

Outcome VfioUserManager::DetachVolume(const base::Context& context, const DeviceSpec& device,
                                      const DeviceVolume& volume) {
  return subsystems_.Detach(context, SubsystemOf(device), volume);
}

Outcome VfioUserManager::SetQos(const base::Context& context, const DeviceSpec& /*device*/,
                                const DeviceVolume* volume, const QosLimit& maximum) {
  return subsystems_.SetQos(context, volume, maximum);
}

absl::StatusOr<GetQosCapabilitiesResponse> VfioUserManager::GetQosCapabilities(
    const base::Context& /*context*/) const {
  return nvmf_common::SubsystemDevices::QosCapabilities();
}

}  // namespace sma::vfiouser
