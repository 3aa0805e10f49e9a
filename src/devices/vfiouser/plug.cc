// The device in its virtual machine.

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <set>
#include <utility>

#include "agent/qmp/hot_plug.h"
#include "devices/vfiouser/params.h"
#include "devices/vfiouser/socket_folder.h"
#include "devices/vfiouser/vfiouser_manager.h"
#include "sma/outcome.h"

namespace sma::vfiouser {

using std::chrono::steady_clock;

namespace {

constexpr char kDriver[] = "vfio-user-pci";  // of QEMU 10.1 and later

// Seen with 11.1.3: when a function that has MSI-X is unplugged, QEMU takes the region of the
// pending bits out of a BAR that is gone, and aborts by an assertion.
constexpr std::pair kAbortingVersion(11, 1);
constexpr char kPendingBits[] = "VFIO MSIX PBA[0]";

// Whether the machine survives that it is asked to unplug the device.
absl::Status CheckUnplug(const base::Context& context, qmp::Client& machine,
                         const std::string& name) {
  absl::StatusOr<qmp::Greeting> greeting = machine.WaitConnected(context);
  if (!greeting.ok()) return greeting.status();
  if (std::pair(greeting->major_version, greeting->minor_version) != kAbortingVersion)
    return absl::OkStatus();
  absl::StatusOr<std::set<std::string>> parts = qmp::ListParts(machine, context, name);
  if (absl::IsNotFound(parts.status())) return absl::OkStatus();
  if (!parts.ok()) return parts.status();
  if (!parts->contains(kPendingBits)) return absl::OkStatus();
  return absl::FailedPreconditionError(fmt::format(
      "QEMU {}.{} at {} would abort, and its guest with it: it cannot unplug {}, a "
      "vfio-user device with MSI-X; end the machine first",
      greeting->major_version, greeting->minor_version, machine.address().ToString(), name));
}

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

Outcome VfioUserManager::Plug(const base::Context& context, const DeviceSpec& device) {
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

absl::Status VfioUserManager::Unplug(const base::Context& context, qmp::Client& machine,
                                     const std::string& name) {
  absl::Status status = CheckUnplug(context, machine, name);
  return status.ok() ? qmp::Unplug(machine, context, name) : status;
}

// OK when the machine does not have the device any more.
Outcome VfioUserManager::Release(const base::Context& context, const DeviceSpec& device) {
  // A device whose bus is not configured any more can be in no machine that is known.
  absl::StatusOr<qmp::Place> place = PlaceOf(device);
  if (!place.ok() || !place->machine) return absl::OkStatus();
  qmp::Client& machine = *place->machine;
  absl::Status status = Unplug(context.Child(steady_clock::now() + options_.unplug_wait), machine,
                               DeviceName(device));
  if (absl::IsDeadlineExceeded(status) && !context.done()) {
    return Outcome::UnderWay(absl::UnavailableError(
        fmt::format("{}; it goes as soon as it has", std::string(status.message()))));
  }
  if (!absl::IsUnavailable(status)) return status;
  std::optional<base::TimePoint> since = machine.unreachable_since();
  if (!since || steady_clock::now() - *since < options_.gone_after) return status;
  spdlog::warn("{}: its machine at {} counts as gone", device.handle, machine.address().ToString());
  return absl::OkStatus();
}

}  // namespace sma::vfiouser
