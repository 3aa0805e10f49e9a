// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/qmp/client.h"
#include "base/mutex.h"

namespace sma::qmp {

/// The QMP clients of the configured VMs, one for each address, shared by all device types because
/// QEMU serves one client at a time. Thread-safe, as are the clients.
class VmClients {
 public:
  std::shared_ptr<Client> At(const Address& address);

 private:
  base::Mutex mutex_;
  std::map<Address, std::shared_ptr<Client>> clients_ SMA_GUARDED_BY(mutex_);
};

/// A PCI bridge or root port into which devices are plugged.
struct Bus {
  std::string name;
  uint32_t slot_count = 32;
  std::shared_ptr<Client> vm;  // null: devices are not plugged
};

/// The PCI slot of a device.
struct PciSlot {
  std::string bus;  // empty: no buses are configured
  uint32_t slot = 0;
  std::shared_ptr<Client> vm;  // null: devices are not plugged
};

/// The PCI buses of a device type. Immutable.
class Buses {
 public:
  /// `plugs` is true if a VM is configured, so that every device needs a slot. `clients` has the
  /// clients of VMs that are no longer configured; it must outlive this object, and may be null.
  Buses(std::vector<Bus> buses, bool plugs, VmClients* clients = nullptr)
      : buses_(std::move(buses)), plugs_(plugs), clients_(clients) {}

  /// Returns the slot of a physical id, which counts the slots of all buses in their order. Returns
  /// INVALID_ARGUMENT if it is beyond the last slot. Accepts any id if there are no buses and
  /// devices are not plugged.
  absl::StatusOr<PciSlot> Find(uint32_t physical_id) const;

  /// Returns the client of the VM at `address`, which need not be configured; null without
  /// `clients` if it is not.
  std::shared_ptr<Client> VmAt(const Address& address) const;

  /// Returns the VMs of all buses, each of them once.
  std::vector<std::shared_ptr<Client>> vms() const;

 private:
  std::vector<Bus> buses_;
  bool plugs_;
  VmClients* clients_;
};

}  // namespace sma::qmp
