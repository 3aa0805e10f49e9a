// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "agent/qmp/client.h"
#include "agent/qmp/message.h"
#include "base/context.h"

namespace sma::qmp {

/// QEMU's container for the devices that have an id.
inline constexpr char kDevicesPath[] = "/machine/peripheral";

/// A PCI device to plug into a running VM.
struct PciDevice {
  std::string id;      // id of the device, and of its character device if it has one
  std::string driver;  // e.g. "vhost-user-blk-pci"
  std::string bus;     // id of a bridge or root port
  uint32_t slot = 0;
  Json properties = Json::object();  // of the driver, in addition to those above
  /// Path of the Unix socket that a character device with the same id connects to; it reconnects
  /// one second after the connection breaks. Empty: the device has no character device.
  std::string chardev_path{};
  /// UUID of the VM that the device is plugged into (Inventory::vm_uuid); empty: unknown. A device
  /// without a character device is not looked for in a VM that has another one.
  std::string vm_uuid{};
};

/// A device that a VM has.
struct PluggedDevice {
  std::string driver{};   // empty: unknown
  std::string chardev{};  // id of the character device that it uses; empty: none, or unknown
};

/// The devices of a VM, by their ids.
struct Inventory {
  std::map<std::string, PluggedDevice> devices;
  /// The path of the Unix socket that the character device connects to; empty if it is no client of
  /// a Unix socket, or if the path is unknown.
  std::map<std::string, std::string> chardevs;
  std::string vm_uuid;  // as QEMU's option -uuid has set it; empty: not set, or unknown
};

/// Returns all devices with an id, on any bus and behind any number of bridges, and all character
/// devices.
absl::StatusOr<Inventory> GetInventory(Client& client, const base::Context& context);

/// What a VM has under the id of a device. Other clients of the VM may use any id.
enum class Presence {
  kAbsent,
  kSame,   // a device with its driver, which uses its character device and socket if it has one
  kOther,  // another client's device
};
Presence FindDevice(const Inventory& inventory, const PciDevice& device);
/// Returns true if the VM has the character device of `device`, which leads to its socket.
bool HasChardevOf(const Inventory& inventory, const PciDevice& device);

/// Returns Inventory::vm_uuid according to the answer of "query-uuid".
std::string VmUuidOf(const absl::StatusOr<Json>& answer);

}  // namespace sma::qmp
