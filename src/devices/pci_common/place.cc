// SPDX-License-Identifier: Apache-2.0

#include "devices/pci_common/place.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "devices/pci_common/pci_params.h"

namespace sma::pci_common {
namespace {

using nlohmann::json;
using qmp::Presence;

constexpr char kQmp[] = "qmp";
constexpr char kVmUuid[] = "vm";
constexpr char kSocket[] = "socket";

absl::Status OtherClients(const std::string& id) {
  return absl::AlreadyExistsError(
      fmt::format("the VM has a device {} already, which belongs to another client", id));
}

std::string Configured(const qmp::PciSlot& slot) {
  if (!slot.vm) return "no VM";
  return fmt::format("bus {} of the VM at {}", slot.bus, slot.vm->address().ToString());
}

absl::Status InOtherVm(const std::string& id, const std::string& qmp, const qmp::PciSlot& slot) {
  return absl::FailedPreconditionError(
      fmt::format("{} is in the VM at {}, but the configuration now has {} for its physical_id", id,
                  qmp, Configured(slot)));
}

bool AreDifferent(const std::string& a, const std::string& b) {
  return !a.empty() && !b.empty() && a != b;
}

/// A query for one device.
class Query {
 public:
  Query(const base::Context& context, Inventories& inventories, const qmp::PciDevice& device)
      : context_(context), inventories_(inventories), device_(device) {}

  // Sets `state` to what the VM shows.
  absl::Status Ask(qmp::Client& vm, PlugState& state) {
    absl::StatusOr<const qmp::Inventory*> inventory = inventories_.Of(context_, vm);
    if (!inventory.ok()) return inventory.status();
    const Presence presence = qmp::FindDevice(**inventory, device_);
    state.is_plugged = presence == Presence::kSame;
    state.has_chardev = qmp::HasChardevOf(**inventory, device_);
    if (presence == Presence::kOther) state.obstacle = OtherClients(device_.id);
    if (!state.is_plugged && AreDifferent((*inventory)->vm_uuid, state.place.vm_uuid)) {
      state.obstacle = absl::FailedPreconditionError(fmt::format(
          "{} was plugged into the VM with UUID {}, but the VM at {} now has UUID {}", device_.id,
          state.place.vm_uuid, vm.address().ToString(), (*inventory)->vm_uuid));
    }
    if (state.is_plugged) {
      state.place = {.qmp = vm.address().ToString(),
                     .vm_uuid = (*inventory)->vm_uuid,
                     .socket = device_.chardev_path};
    }
    return absl::OkStatus();
  }

  // Returns true if it is certain that this is the VM with the UUID.
  bool HasUuid(qmp::Client& vm, const std::string& uuid) {
    if (uuid.empty()) return false;
    absl::StatusOr<const qmp::Inventory*> inventory = inventories_.Of(context_, vm);
    return inventory.ok() && (*inventory)->vm_uuid == uuid;
  }

 private:
  const base::Context& context_;
  Inventories& inventories_;
  const qmp::PciDevice& device_;
};

}  // namespace

Place PlaceOf(const qmp::PciSlot& slot, std::string_view socket) {
  if (!slot.vm) return {};
  return {.qmp = slot.vm->address().ToString(), .vm_uuid = {}, .socket = std::string(socket)};
}

std::string ToText(const Place& place) {
  if (place.qmp.empty()) return {};
  json text{{kQmp, place.qmp}};
  if (!place.vm_uuid.empty()) text[kVmUuid] = place.vm_uuid;
  if (!place.socket.empty()) text[kSocket] = place.socket;
  return text.dump(-1, ' ', false, json::error_handler_t::replace);
}

Place ParsePlace(std::string_view text) {
  const json parsed = json::parse(text, nullptr, /*allow_exceptions=*/false);
  auto member = [&parsed](const char* name) {
    const auto found = parsed.find(name);
    return found != parsed.end() && found->is_string() ? found->get<std::string>() : std::string();
  };
  if (!parsed.is_object()) return {};
  return {.qmp = member(kQmp), .vm_uuid = member(kVmUuid), .socket = member(kSocket)};
}

std::shared_ptr<qmp::Client> VmOf(const Place& place, const qmp::PciSlot& slot,
                                  const qmp::Buses& buses) {
  if (slot.vm && slot.vm->address().ToString() == place.qmp) return slot.vm;
  std::optional<qmp::Address> address = ParseQmpAddress(place.qmp);
  return address ? buses.VmAt(*address) : slot.vm;
}

std::string NeighbourOf(std::string_view place, const absl::StatusOr<qmp::PciSlot>& slot) {
  std::string qmp = ParsePlace(place).qmp;
  if (qmp.empty() && slot.ok() && slot->vm) qmp = slot->vm->address().ToString();
  return qmp.empty() ? qmp : "VM at " + qmp;
}

absl::StatusOr<PlugState> QueryPlug(const base::Context& context, Inventories& inventories,
                                    const qmp::Buses& buses, const qmp::PciSlot& slot,
                                    const Place& place, const qmp::PciDevice& device) {
  PlugState state{.place = place};
  Query query(context, inventories, device);
  const std::shared_ptr<qmp::Client> vm = VmOf(place, slot, buses);
  // Without a VM in the configuration, the agent plugs and looks for no device.
  if (!slot.vm || !vm) {
    state.is_plugged = true;
    return state;
  }
  if (vm == slot.vm || query.HasUuid(*slot.vm, place.vm_uuid)) {
    if (absl::Status status = query.Ask(*slot.vm, state); !status.ok()) return status;
    if (state.is_plugged || !place.qmp.empty()) return state;
    // An agent that did not record places may have plugged it by another configuration.
    for (const std::shared_ptr<qmp::Client>& other : buses.vms()) {
      if (other == slot.vm) continue;
      PlugState there{.place = place};
      // A VM that does not answer must not keep the others from their devices: a device that some
      // VM is connected to is not plugged in any case.
      if (!query.Ask(*other, there).ok() || !there.is_plugged) continue;
      there.obstacle = InOtherVm(device.id, there.place.qmp, slot);
      return there;
    }
    return state;
  }
  const absl::Status asked = query.Ask(*vm, state);
  if (!asked.ok()) state.is_plugged = false;  // that VM may be gone
  state.obstacle = InOtherVm(device.id, place.qmp, slot);
  return state;
}

}  // namespace sma::pci_common
