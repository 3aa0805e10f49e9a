// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <set>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/qmp/client.h"
#include "agent/qmp/inventory.h"
#include "base/context.h"

namespace sma::qmp {

/// Result of a successful Plug.
struct Plugged {
  bool was_there = false;  // the VM already had the device
  std::string vm_uuid;     // Inventory::vm_uuid
};

/// Plugs `device`; does nothing if the VM already has it (Presence::kSame). A failed call is rolled
/// back; if that is not certain, the status is marked by jsonrpc::WithFateUnknown. Returns
/// ALREADY_EXISTS if the VM has another device, or another character device, with this id,
/// FAILED_PRECONDITION if QEMU refused, or UNAVAILABLE, CANCELLED or DEADLINE_EXCEEDED. On success,
/// sets `*plugged` unless it is null.
absl::Status Plug(Client& client, const base::Context& context, const PciDevice& device,
                  Plugged* plugged = nullptr);

/// Returns the names of the properties and children of the device `id` in QEMU's object tree
/// ("qom-list"). Returns NOT_FOUND if there is no such device, or FAILED_PRECONDITION, UNAVAILABLE,
/// CANCELLED or DEADLINE_EXCEEDED.
absl::StatusOr<std::set<std::string>> ListParts(Client& client, const base::Context& context,
                                                const std::string& id);

/// Asks the guest to release `device`, waits until it has, then removes its character device.
/// Returns OK if neither exists; other clients' devices with this id (Presence::kOther) stay.
/// Returns DEADLINE_EXCEEDED if the guest has not released the device (it may do so later),
/// FAILED_PRECONDITION if the guest or QEMU refused, or UNAVAILABLE or CANCELLED.
/// Sets `*was_there`, unless it is null, to whether the VM had the device.
absl::Status Unplug(Client& client, const base::Context& context, const PciDevice& device,
                    bool* was_there = nullptr);

}  // namespace sma::qmp
