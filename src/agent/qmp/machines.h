#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/qmp/client.h"

namespace sma::qmp {

/// The clients of the machines that the agent knows, one for each address: QEMU serves one client
/// at a time, so all device types share it. Not synchronised; the clients are.
class Machines {
 public:
  std::shared_ptr<Client> At(const Address& address);

 private:
  std::map<Address, std::shared_ptr<Client>> clients_;
};

/// A bridge or root port that devices are plugged into.
struct Bus {
  std::string name;
  uint32_t slot_count = 32;
  std::shared_ptr<Client> machine;  // null: nothing is plugged
};

/// Where a device goes.
struct Place {
  std::string bus;  // empty: no buses are known
  uint32_t slot = 0;
  std::shared_ptr<Client> machine;  // null: nothing is plugged
};

/// The buses of a device type. Immutable.
class Buses {
 public:
  /// `plugs`: a machine is configured, so every device needs a place.
  Buses(std::vector<Bus> buses, bool plugs) : buses_(std::move(buses)), plugs_(plugs) {}

  /// The place of a physical id, which counts the slots of all buses in their order.
  /// INVALID_ARGUMENT: it is beyond the last one. Without buses, and where nothing is plugged, any
  /// id is good.
  absl::StatusOr<Place> Find(uint32_t physical_id) const;

  /// Each machine once.
  std::vector<std::shared_ptr<Client>> machines() const;

 private:
  std::vector<Bus> buses_;
  bool plugs_;
};

}  // namespace sma::qmp
