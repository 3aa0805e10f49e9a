// SPDX-License-Identifier: Apache-2.0

#include "devices/vfiouser/vfiouser_manager.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "devices/nvmf_common/comparison.h"
#include "devices/vfiouser/params.h"
#include "devices/vfiouser/socket_folder.h"

namespace sma::vfiouser {

using nvmf_common::SubsystemSpec;

namespace {

// How long to wait for a folder to become empty when its subsystem is deleted, and how often to
// check.
constexpr std::chrono::milliseconds kSocketWait{500};
constexpr std::chrono::milliseconds kSocketPause{10};

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
  absl::StatusOr<qmp::PciSlot> slot = SlotOf(device);
  if (!slot.ok()) {
    return absl::InvalidArgumentError(fmt::format("nvme.{}", std::string(slot.status().message())));
  }
  device.mark = nvmf_common::NewSerialNumber();
  device.place = pci_common::ToText(pci_common::PlaceOf(*slot, {}));
  return device;
}

std::string VfioUserManager::NeighbourOf(const DeviceSpec& device) const {
  return pci_common::NeighbourOf(device.place, SlotOf(device));
}

bool VfioUserManager::OwnsHandle(std::string_view handle) const { return IsHandle(handle); }

std::string VfioUserManager::FolderOf(const DeviceSpec& device) const {
  return fmt::format("{}/{}", options_.socket_folder, DeviceName(device));
}

SubsystemSpec VfioUserManager::SubsystemOf(const DeviceSpec& device) const {
  return SpecOf(device, FolderOf(device));
}

absl::StatusOr<qmp::PciSlot> VfioUserManager::SlotOf(const DeviceSpec& device) const {
  return options_.buses.Find(device.params.nvme().physical_id());
}

absl::Status VfioUserManager::Prepare(const base::Context& context) {
  return subsystems_.Prepare(context);
}

absl::StatusOr<std::optional<ExistingDevice>> VfioUserManager::FindExisting(
    const base::Context& context, const DeviceSpec& device) {
  auto existing = subsystems_.FindExisting(context, SubsystemOf(device));
  if (!existing.ok()) return existing;
  absl::StatusOr<qmp::PciSlot> slot = SlotOf(device);
  if (!slot.ok()) return slot.status();
  pci_common::Inventories inventories;
  absl::StatusOr<pci_common::PlugState> plug = QueryPlug(context, device, inventories);
  if (!plug.ok()) return plug.status();
  if (!plug->obstacle.ok()) return plug->obstacle;
  if (!*existing) {
    if (slot->vm && plug->is_plugged) return NotPluggedHere(DeviceName(device));
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
  absl::StatusOr<bool> made = MakeFolder(FolderOf(device));
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
  Outcome outcome = Plug(context, device, /*is_recorded=*/false, created.place);
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
  if (plugged) undone = Release(spdk::UndoContext(), device);
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
  if (Outcome outcome = Release(context, device); !outcome.ok()) return outcome;
  if (Outcome outcome = subsystems_.Delete(context, SubsystemOf(device)); !outcome.ok())
    return outcome;
  return RemoveFolderOf(context, device);
}

// A target may answer before it has removed its socket.
absl::Status VfioUserManager::RemoveFolderOf(const base::Context& context,
                                             const DeviceSpec& device) {
  const base::TimePoint until = std::chrono::steady_clock::now() + kSocketWait;
  while (true) {
    absl::StatusOr<bool> gone = RemoveFolder(FolderOf(device));
    if (!gone.ok()) return gone.status();
    if (*gone) return absl::OkStatus();
    const base::TimePoint now = std::chrono::steady_clock::now();
    if (now >= until) break;
    if (absl::Status ended = context.SleepUntil(now + kSocketPause); !ended.ok()) return ended;
  }
  spdlog::warn("{}: not removed, because it contains other files", FolderOf(device));
  return absl::OkStatus();
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
