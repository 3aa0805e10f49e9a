#include "agent/qmp/machines.h"

#include <fmt/format.h>

#include <algorithm>

namespace sma::qmp {

std::shared_ptr<Client> Machines::At(const Address& address) {
  std::shared_ptr<Client>& client = clients_[address];
  if (!client) {
    ClientOptions options;
    options.address = address;
    client = std::make_shared<Client>(std::move(options));
  }
  return client;
}

absl::StatusOr<Place> Buses::Find(uint32_t physical_id) const {
  uint32_t slot = physical_id;
  for (const Bus& bus : buses_) {
    if (slot < bus.slot_count) return Place{.bus = bus.name, .slot = slot, .machine = bus.machine};
    slot -= bus.slot_count;
  }
  if (buses_.empty() && !plugs_) return Place{};
  return absl::InvalidArgumentError(
      fmt::format("physical_id: {} has no place on the configured buses", physical_id));
}

std::vector<std::shared_ptr<Client>> Buses::machines() const {
  std::vector<std::shared_ptr<Client>> machines;
  for (const Bus& bus : buses_) {
    if (bus.machine && std::find(machines.begin(), machines.end(), bus.machine) == machines.end()) {
      machines.push_back(bus.machine);
    }
  }
  return machines;
}

}  // namespace sma::qmp
