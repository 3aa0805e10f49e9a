// SPDX-License-Identifier: Apache-2.0

#include "devices/vhost_blk/vm_functions.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <optional>
#include <utility>

#include "devices/pci_common/unplug.h"
#include "devices/vhost_blk/params.h"

namespace sma::vhost_blk {

using pci_common::Place;
using pci_common::PlugState;
using std::chrono::steady_clock;

namespace {

constexpr char kDriver[] = "vhost-user-blk-pci";

}  // namespace

// The device in its VM. A device that was plugged leads to the socket that was configured then.
qmp::PciDevice VmFunctions::FunctionOf(const DeviceSpec& device) const {
  const Place place = pci_common::ParsePlace(device.place);
  const std::string name = ControllerName(device);
  return {.id = name,
          .driver = kDriver,
          .bus = {},
          .chardev_path = place.socket.empty() ? options_.socket_folder + "/" + name : place.socket,
          .vm_uuid = place.vm_uuid};
}

Place VmFunctions::PlaceOf(const DeviceSpec& device, const qmp::PciSlot& slot) const {
  return pci_common::PlaceOf(slot, FunctionOf(device).chardev_path);
}

absl::StatusOr<PlugState> VmFunctions::Query(const base::Context& context, const DeviceSpec& device,
                                             pci_common::Inventories& inventories) const {
  absl::StatusOr<qmp::PciSlot> slot = SlotOf(device);
  if (!slot.ok()) return slot.status();
  return pci_common::QueryPlug(context, inventories, options_.buses, *slot,
                               pci_common::ParsePlace(device.place), FunctionOf(device));
}

Outcome VmFunctions::Plug(const base::Context& context, const DeviceSpec& device,
                          const qmp::PciSlot& slot, std::string& place) const {
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

Outcome VmFunctions::Release(const base::Context& context, const DeviceSpec& device) const {
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
  absl::StatusOr<std::optional<spdk::VhostController>> found =
      controllers_.Find(context, function.id);
  if (!found.ok()) return found.status();
  if (*found && (*found)->session_count > 0) return status;
  spdlog::warn("{}: its VM at {} is unreachable and treated as removed", function.id,
               vm->address().ToString());
  return absl::OkStatus();
}

// A session may be that of the VM's character device, which may be there without the device.
absl::Status VmFunctions::CheckPluggable(const base::Context& context, const DeviceSpec& device,
                                         const PlugState& plug) const {
  if (!plug.obstacle.ok()) return plug.obstacle;
  const std::string name = ControllerName(device);
  auto found = controllers_.Find(context, name);
  if (!found.ok()) return found.status();
  if (!*found || (*found)->session_count <= (plug.has_chardev ? 1 : 0)) return absl::OkStatus();
  return absl::AlreadyExistsError(
      fmt::format("{} is not in its VM, but another VM is connected to it", name));
}

}  // namespace sma::vhost_blk
