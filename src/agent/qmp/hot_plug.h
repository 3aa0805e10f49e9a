#pragma once

#include <cstdint>
#include <set>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/qmp/client.h"
#include "base/context.h"

namespace sma::qmp {

/// A PCI function to plug into a running machine.
struct PciDevice {
  std::string id;      // of the device, and of its character device if it has one
  std::string driver;  // "vhost-user-blk-pci", say
  std::string bus;     // id of a bridge or root port
  uint32_t slot = 0;
  Json properties = Json::object();  // of the driver, beyond those above
  /// The Unix socket that a character device of the device's id connects to, again after one second
  /// when the connection breaks; empty: the device has none.
  std::string chardev_path{};
};

/// Ids of what a machine has.
struct Inventory {
  std::set<std::string> devices;
  std::set<std::string> chardevs;
};

/// The devices that have an id, on whatever bus and below however many bridges, and the character
/// devices.
absl::StatusOr<Inventory> TakeInventory(Client& client, const base::Context& context);

/// Plugs `device`, unless the machine has one of that id already. What a failed call has added is
/// gone again, or the status is marked by jsonrpc::WithFateUnknown. FAILED_PRECONDITION: QEMU
/// refuses it. UNAVAILABLE, CANCELLED, DEADLINE_EXCEEDED.
absl::Status Plug(Client& client, const base::Context& context, const PciDevice& device);

/// Names of the properties and parts of the device `id` in QEMU's object tree ("qom-list").
/// NOT_FOUND: there is no such device. FAILED_PRECONDITION, UNAVAILABLE, CANCELLED,
/// DEADLINE_EXCEEDED.
absl::StatusOr<std::set<std::string>> ListParts(Client& client, const base::Context& context,
                                                const std::string& id);

/// Asks the guest to release the device `id` and waits until it has, then removes the character
/// device of that id. OK when there is neither. DEADLINE_EXCEEDED: the guest has not released it
/// yet; it may do so later. FAILED_PRECONDITION: guest or QEMU refuses. UNAVAILABLE, CANCELLED.
absl::Status Unplug(Client& client, const base::Context& context, const std::string& id);

}  // namespace sma::qmp
