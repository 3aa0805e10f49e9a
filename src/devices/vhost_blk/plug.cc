// SPDX-License-Identifier: Apache-2.0

// Plugs devices into their VMs, and unplugs them.

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <utility>

#include "agent/qmp/hot_plug.h"
#include "devices/pci_common/place.h"
#include "devices/pci_common/unplug.h"
#include "devices/vhost_blk/params.h"
#include "devices/vhost_blk/vhost_blk_manager.h"
#include "sma/outcome.h"

namespace sma::vhost_blk {

using pci_common::Place;
using std::chrono::steady_clock;

namespace {

constexpr char kDriver[] = "vhost-user-blk-pci";

}  // namespace

absl::StatusOr<qmp::PciSlot> VhostBlkManager::SlotOf(const DeviceSpec& device) const {
  return options_.buses.Find(device.params.virtio_blk().physical_id());
}

// The device in its VM. A device that was plugged leads to the socket that was configured then.
qmp::PciDevice VhostBlkManager::FunctionOf(const DeviceSpec& device) const {
  const Place place = pci_common::ParsePlace(device.place);
  const std::string name = ControllerName(device);
  return {.id = name,
          .driver = kDriver,
          .bus = {},
          .chardev_path = place.socket.empty() ? options_.socket_folder + "/" + name : place.socket,
          .vm_uuid = place.vm_uuid};
}

absl::StatusOr<pci_common::PlugState> VhostBlkManager::QueryPlug(
    const base::Context& context, const DeviceSpec& device,
    pci_common::Inventories& inventories) const {
  absl::StatusOr<qmp::PciSlot> slot = SlotOf(device);
  if (!slot.ok()) return slot.status();
  return pci_common::QueryPlug(context, inventories, options_.buses, *slot,
                               pci_common::ParsePlace(device.place), FunctionOf(device));
}

Outcome VhostBlkManager::Plug(const base::Context& context, const DeviceSpec& device,
                              const qmp::PciSlot& slot, std::string& place) {
  if (!slot.vm) return absl::OkStatus();
  qmp::PciDevice function = FunctionOf(device);
  function.bus = slot.bus;
  function.slot = slot.slot;
  function.chardev_path = options_.socket_folder + "/" + function.id;
  if (options_.packed_ring) function.properties["packed"] = true;
  qmp::Plugged plugged;
  absl::Status status = qmp::Plug(*slot.vm, context, function, &plugged);
  if (!status.ok()) return status;
  Place now = pci_common::PlaceOf(slot, function.chardev_path);
  now.vm_uuid = std::move(plugged.vm_uuid);
  place = pci_common::ToText(now);
  return absl::OkStatus();
}

// Returns OK if the VM no longer has the device.
Outcome VhostBlkManager::Release(const base::Context& context, const DeviceSpec& device) {
  // The device may be in a VM that the configuration no longer has.
  const std::shared_ptr<qmp::Client> vm =
      pci_common::VmOf(pci_common::ParsePlace(device.place),
                       SlotOf(device).value_or(qmp::PciSlot()), options_.buses);
  if (!vm) return absl::OkStatus();
  const qmp::PciDevice function = FunctionOf(device);
  absl::Status status =
      qmp::Unplug(*vm, context.Child(steady_clock::now() + options_.unplug_wait), function);
  if (!absl::IsUnavailable(status)) return pci_common::UnplugOutcome(context, status);
  if (!pci_common::IsLongGone(vm->unreachable_since(), options_.gone_after)) return status;
  absl::StatusOr<std::optional<spdk::VhostBlkController>> found =
      FindController(context, function.id);
  if (!found.ok()) return found.status();
  if (*found && (*found)->session_count > 0) return status;
  spdlog::warn("{}: its VM at {} is unreachable and treated as removed", function.id,
               vm->address().ToString());
  return absl::OkStatus();
}

}  // namespace sma::vhost_blk
