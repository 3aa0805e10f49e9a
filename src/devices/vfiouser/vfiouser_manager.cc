#include "devices/vfiouser/vfiouser_manager.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "devices/nvmf_common/comparison.h"
#include "devices/vfiouser/params.h"
#include "devices/vfiouser/socket_folder.h"
#include "jsonrpc/error.h"

namespace sma::vfiouser {

using nvmf_common::SubsystemSpec;

namespace {

// How long a folder may have something in it when its subsystem is deleted, and how often it is
// looked at.
constexpr std::chrono::milliseconds kSocketWait{500};
constexpr std::chrono::milliseconds kSocketPause{10};

}  // namespace

absl::StatusOr<DeviceSpec> VfioUserManager::Describe(const CreateDeviceRequest& request) const {
  const nvme::DeviceParameters& params = request.nvme();
  if (params.virtual_id() != 0) {
    return absl::InvalidArgumentError(
        fmt::format("nvme.virtual_id: {}: there are no virtual functions", params.virtual_id()));
  }
  DeviceSpec device;
  device.handle = HandleOf(params.physical_id());
  device.params.mutable_nvme()->set_physical_id(params.physical_id());
  absl::StatusOr<qmp::Place> place = PlaceOf(device);
  if (!place.ok()) {
    return absl::InvalidArgumentError(
        fmt::format("nvme.{}", std::string(place.status().message())));
  }
  device.mark = nvmf_common::NewSerialNumber();
  return device;
}

bool VfioUserManager::OwnsHandle(std::string_view handle) const { return IsHandle(handle); }

std::string VfioUserManager::FolderOf(const DeviceSpec& device) const {
  return fmt::format("{}/{}", options_.socket_folder, DeviceName(device));
}

absl::StatusOr<qmp::Place> VfioUserManager::PlaceOf(const DeviceSpec& device) const {
  return options_.buses.Find(device.params.nvme().physical_id());
}

absl::Status VfioUserManager::Prepare(const base::Context& context) {
  return subsystems_.Prepare(context);
}

absl::StatusOr<std::optional<ExistingDevice>> VfioUserManager::FindExisting(
    const base::Context& context, const DeviceSpec& device) {
  auto existing = subsystems_.FindExisting(context, SpecOf(device, FolderOf(device)));
  if (!existing.ok() || !*existing) return existing;
  absl::StatusOr<bool> plugged = IsPlugged(context, device);
  if (!plugged.ok()) return plugged.status();
  if (!*plugged) {
    return absl::AlreadyExistsError(
        fmt::format("subsystem {} is on the target already, and in no machine", NqnOf(device)));
  }
  return existing;
}

absl::StatusOr<std::string> VfioUserManager::CreateDevice(const base::Context& context,
                                                          const DeviceSpec& device,
                                                          const DeviceVolume* volume) {
  absl::StatusOr<bool> made = MakeFolder(FolderOf(device));
  if (!made.ok()) return made.status();
  absl::StatusOr<std::string> attachment =
      subsystems_.Create(context, SpecOf(device, FolderOf(device)), volume);
  if (!attachment.ok()) {
    // What was made may be there still: its folder goes with it.
    if (*made && !jsonrpc::IsFateUnknown(attachment.status())) {
      RemoveFolderOf(spdk::UndoContext(), device).IgnoreError();
    }
    return attachment;
  }
  absl::Status status = Plug(context, device);
  const bool plugged = status.ok() || jsonrpc::IsFateUnknown(status);
  if (status.ok()) status = context.status();
  if (!status.ok()) return Undo(std::move(status), device, *made, plugged);
  return attachment;
}

// Takes back what CreateDevice made before `why` ended it; marked when not all could be.
absl::Status VfioUserManager::Undo(absl::Status why, const DeviceSpec& device, bool made_folder,
                                   bool plugged) {
  absl::Status undone;
  if (plugged) undone = Release(spdk::UndoContext(), device);
  if (undone.ok())
    undone = subsystems_.Delete(spdk::UndoContext(), SpecOf(device, FolderOf(device)));
  if (undone.ok() && made_folder) undone = RemoveFolderOf(spdk::UndoContext(), device);
  if (undone.ok()) return absl::Status(why.code(), why.message());
  spdlog::warn("{}: could not be undone yet: {}", device.handle, undone.ToString());
  return jsonrpc::WithFateUnknown(std::move(why));
}

absl::Status VfioUserManager::UndoCreate(const base::Context& context, const DeviceSpec& device,
                                         const DeviceVolume* volume) {
  const SubsystemSpec spec = SpecOf(device, FolderOf(device));
  absl::StatusOr<std::optional<spdk::Subsystem>> found =
      spdk::FindSubsystem(target_, context, spec.nqn);
  if (!found.ok()) return found.status();
  if (*found && !nvmf_common::IsPartOf(**found, spec, volume)) {
    spdlog::warn("{}: left alone, it has what a failed CreateDevice did not make", spec.nqn);
    return absl::OkStatus();
  }
  return Remove(context, device);
}

absl::Status VfioUserManager::DeleteDevice(const base::Context& context, const DeviceSpec& device,
                                           std::span<const DeviceVolume> /*volumes*/) {
  return Remove(context, device);
}

absl::Status VfioUserManager::Remove(const base::Context& context, const DeviceSpec& device) {
  if (absl::Status status = Release(context, device); !status.ok()) return status;
  if (absl::Status status = subsystems_.Delete(context, SpecOf(device, FolderOf(device)));
      !status.ok())
    return status;
  return RemoveFolderOf(context, device);
}

// A target may answer before it has taken its socket away.
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
  spdlog::warn("{}: not removed, there is something in it", FolderOf(device));
  return absl::OkStatus();
}

absl::StatusOr<std::string> VfioUserManager::AttachVolume(const base::Context& context,
                                                          const DeviceSpec& device,
                                                          const DeviceVolume& volume) {
  return subsystems_.Attach(context, SpecOf(device, FolderOf(device)), volume);
}

absl::Status VfioUserManager::DetachVolume(const base::Context& context, const DeviceSpec& device,
                                           const DeviceVolume& volume) {
  return subsystems_.Detach(context, SpecOf(device, FolderOf(device)), volume);
}

absl::Status VfioUserManager::SetQos(const base::Context& context, const DeviceSpec& /*device*/,
                                     const DeviceVolume* volume, const QosLimit& maximum) {
  return subsystems_.SetQos(context, volume, maximum);
}

GetQosCapabilitiesResponse VfioUserManager::GetQosCapabilities() const {
  return nvmf_common::SubsystemDevices::QosCapabilities();
}

}  // namespace sma::vfiouser
