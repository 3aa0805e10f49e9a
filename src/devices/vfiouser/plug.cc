// The device in its virtual machine.

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "agent/qmp/hot_plug.h"
#include "devices/vfiouser/params.h"
#include "devices/vfiouser/socket_folder.h"
#include "devices/vfiouser/vfiouser_manager.h"

namespace sma::vfiouser {

using std::chrono::steady_clock;

namespace {

constexpr char kDriver[] = "vfio-user-pci";  // of QEMU 10.1 and later

}  // namespace

// True also where nothing is plugged.
absl::StatusOr<bool> VfioUserManager::IsPlugged(const base::Context& context,
                                                const DeviceSpec& device) const {
  absl::StatusOr<qmp::Place> place = PlaceOf(device);
  if (!place.ok()) return place.status();
  if (!place->machine) return true;
  absl::StatusOr<qmp::Inventory> inventory = qmp::TakeInventory(*place->machine, context);
  if (!inventory.ok()) return inventory.status();
  return inventory->devices.contains(DeviceName(device));
}

absl::Status VfioUserManager::Plug(const base::Context& context, const DeviceSpec& device) {
  absl::StatusOr<qmp::Place> place = PlaceOf(device);
  if (!place.ok()) return place.status();
  if (!place->machine) return absl::OkStatus();
  const std::string socket = fmt::format("{}/{}", FolderOf(device), kSocketName);
  const qmp::PciDevice function{.id = DeviceName(device),
                                .driver = kDriver,
                                .bus = place->bus,
                                .slot = place->slot,
                                .properties = {{"socket", {{"type", "unix"}, {"path", socket}}}}};
  return qmp::Plug(*place->machine, context, function);
}

// OK when the machine does not have the device any more.
absl::Status VfioUserManager::Release(const base::Context& context, const DeviceSpec& device) {
  // A device whose bus is not configured any more can be in no machine that is known.
  absl::StatusOr<qmp::Place> place = PlaceOf(device);
  if (!place.ok() || !place->machine) return absl::OkStatus();
  qmp::Client& machine = *place->machine;
  absl::Status status = qmp::Unplug(
      machine, context.Child(steady_clock::now() + options_.unplug_wait), DeviceName(device));
  if (absl::IsDeadlineExceeded(status) && !context.done()) {
    return absl::UnavailableError(
        fmt::format("{}; it goes as soon as it has", std::string(status.message())));
  }
  if (!absl::IsUnavailable(status)) return status;
  std::optional<base::TimePoint> since = machine.unreachable_since();
  if (!since || steady_clock::now() - *since < options_.gone_after) return status;
  spdlog::warn("{}: its machine at {} counts as gone", device.handle, machine.address().ToString());
  return absl::OkStatus();
}

}  // namespace sma::vfiouser
