// SPDX-License-Identifier: Apache-2.0

#include "agent/qmp/pci_buses.h"

#include <fmt/format.h>

#include <algorithm>

namespace sma::qmp {

std::shared_ptr<Client> VmClients::At(const Address& address) {
  base::MutexLock lock(mutex_);
  std::shared_ptr<Client>& client = clients_[address];
  if (!client) {
    ClientOptions options;
    options.address = address;
    client = std::make_shared<Client>(std::move(options));
  }
  return client;
}

absl::StatusOr<PciSlot> Buses::Find(uint32_t physical_id) const {
  uint32_t slot = physical_id;
  for (const Bus& bus : buses_) {
    if (slot < bus.slot_count) return PciSlot{.bus = bus.name, .slot = slot, .vm = bus.vm};
    slot -= bus.slot_count;
  }
  if (buses_.empty() && !plugs_) return PciSlot{};
  return absl::InvalidArgumentError(
      fmt::format("physical_id: {} is beyond the last slot of the configured buses", physical_id));
}

std::shared_ptr<Client> Buses::VmAt(const Address& address) const {
  for (const Bus& bus : buses_) {
    if (bus.vm && bus.vm->address() == address) return bus.vm;
  }
  return clients_ == nullptr ? nullptr : clients_->At(address);
}

std::vector<std::shared_ptr<Client>> Buses::vms() const {
  std::vector<std::shared_ptr<Client>> vms;
  for (const Bus& bus : buses_) {
    if (bus.vm && std::find(vms.begin(), vms.end(), bus.vm) == vms.end()) {
      vms.push_back(bus.vm);
    }
  }
  return vms;
}

}  // namespace sma::qmp
