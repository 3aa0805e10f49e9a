// SPDX-License-Identifier: Apache-2.0

#include "devices/vfiouser/vm_functions.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <set>
#include <utility>

#include "devices/pci_common/unplug.h"
#include "devices/vfiouser/params.h"
#include "devices/vfiouser/socket_folder.h"

namespace sma::vfiouser {

using pci_common::PlugState;
using std::chrono::steady_clock;

namespace {

constexpr char kDriver[] = "vfio-user-pci";  // of QEMU 10.1 and later

// Observed with QEMU 11.1.3: when a function with MSI-X is unplugged, QEMU removes the pending bit
// array from a BAR that no longer exists, and aborts with a failed assertion.
constexpr std::pair kAbortingVersion(11, 1);
constexpr char kPendingBits[] = "VFIO MSIX PBA[0]";

// Returns OK if QEMU can unplug the device without aborting.
absl::Status CheckUnplug(const base::Context& context, qmp::Client& vm, const std::string& name) {
  absl::StatusOr<qmp::Greeting> greeting = vm.WaitConnected(context);
  if (!greeting.ok()) return greeting.status();
  if (std::pair(greeting->major_version, greeting->minor_version) != kAbortingVersion)
    return absl::OkStatus();
  absl::StatusOr<std::set<std::string>> parts = qmp::ListParts(vm, context, name);
  if (absl::IsNotFound(parts.status())) return absl::OkStatus();
  if (!parts.ok()) return parts.status();
  if (!parts->contains(kPendingBits)) return absl::OkStatus();
  return absl::FailedPreconditionError(fmt::format(
      "QEMU {}.{} at {} cannot unplug {}, a vfio-user device with MSI-X, without aborting and "
      "ending the VM: stop the VM first",
      greeting->major_version, greeting->minor_version, vm.address().ToString(), name));
}

absl::Status Unplug(const base::Context& context, qmp::Client& vm, const qmp::PciDevice& function,
                    bool& was_there) {
  absl::Status status = CheckUnplug(context, vm, function.id);
  return status.ok() ? qmp::Unplug(vm, context, function, &was_there) : status;
}

}  // namespace

std::string VmFunctions::FolderOf(const DeviceSpec& device) const {
  return fmt::format("{}/{}", options_.socket_folder, DeviceName(device));
}

absl::StatusOr<qmp::PciSlot> VmFunctions::SlotOf(const DeviceSpec& device) const {
  return options_.buses.Find(device.params.nvme().physical_id());
}

// A VM does not show which agent or operator plugged a function.
absl::Status VmFunctions::NotPluggedHere(const std::string& name) {
  return absl::AlreadyExistsError(fmt::format(
      "the VM already has a device {}, which does not belong to a device of this agent", name));
}

// The device in its VM.
qmp::PciDevice VmFunctions::FunctionOf(const DeviceSpec& device) const {
  const std::string socket = fmt::format("{}/{}", FolderOf(device), kSocketName);
  return {.id = DeviceName(device),
          .driver = kDriver,
          .bus = {},
          .properties = {{"socket", {{"type", "unix"}, {"path", socket}}}},
          .vm_uuid = pci_common::ParsePlace(device.place).vm_uuid};
}

absl::StatusOr<PlugState> VmFunctions::Query(const base::Context& context, const DeviceSpec& device,
                                             pci_common::Inventories& inventories) const {
  absl::StatusOr<qmp::PciSlot> slot = SlotOf(device);
  if (!slot.ok()) return slot.status();
  return pci_common::QueryPlug(context, inventories, options_.buses, *slot,
                               pci_common::ParsePlace(device.place), FunctionOf(device));
}

Outcome VmFunctions::Plug(const base::Context& context, const DeviceSpec& device, bool is_recorded,
                          std::string& place) const {
  absl::StatusOr<qmp::PciSlot> slot = SlotOf(device);
  if (!slot.ok()) return slot.status();
  if (!slot->vm) return absl::OkStatus();
  qmp::PciDevice function = FunctionOf(device);
  function.bus = slot->bus;
  function.slot = slot->slot;
  qmp::Plugged plugged;
  absl::Status status = qmp::Plug(*slot->vm, context, function, &plugged);
  if (status.ok() && plugged.was_there) {
    if (!is_recorded) return NotPluggedHere(function.id);
    // The function is connected to a listener that no longer exists, and QEMU does not reconnect.
    spdlog::warn("{}: its VM has the function of an earlier device, plugging it again",
                 device.handle);
    if (Outcome outcome = Release(context, device); !outcome.ok()) return outcome.status();
    status = qmp::Plug(*slot->vm, context, function, &plugged);
  }
  if (!status.ok()) return status;
  pci_common::Place now = pci_common::PlaceOf(*slot, {});
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
  bool was_there = false;
  absl::Status status = Unplug(context.Child(steady_clock::now() + options_.unplug_wait), *vm,
                               FunctionOf(device), was_there);
  if (status.ok() && !was_there) return CheckNotUsed(context, device);
  if (!absl::IsUnavailable(status)) return pci_common::UnplugOutcome(context, status);
  // A VM whose monitor is used by another client is running, and its disk must not be removed.
  if (!pci_common::IsLongGone(vm->gone_since(), options_.gone_after)) return status;
  spdlog::warn("{}: its VM at {} is unreachable and treated as removed", device.handle,
               vm->address().ToString());
  return absl::OkStatus();
}

// Returns an error if a VM uses the device although the device is not in its own VM.
absl::Status VmFunctions::CheckNotUsed(const base::Context& context,
                                       const DeviceSpec& device) const {
  const std::string nqn = NqnOf(device);
  absl::StatusOr<size_t> count = spdk::CountHosts(target_, context, nqn);
  if (!count.ok()) return count.status();
  if (*count == 0) return absl::OkStatus();
  return absl::UnavailableError(
      fmt::format("{} is not in its VM, but a VM is connected to it", DeviceName(device)));
}

}  // namespace sma::vfiouser
