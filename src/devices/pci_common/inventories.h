#pragma once

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "agent/qmp/hot_plug.h"
#include "agent/qmp/machines.h"
#include "base/context.h"

namespace sma::pci_common {

/// What the VMs of a device type had plugged at one time. Immutable.
class Inventories {
 public:
  /// Asks all VMs at once. One that does not answer within two seconds is unknown; it delays no
  /// other and is no error.
  static Inventories Take(const base::Context& context, const qmp::Buses& buses);

  /// Whether the VM has the device `id`. UNAVAILABLE and others: why it is not known.
  absl::StatusOr<bool> IsPlugged(const qmp::Client& vm, const std::string& id) const;

 private:
  std::map<const qmp::Client*, absl::StatusOr<qmp::Inventory>> by_vm_;
};

}  // namespace sma::pci_common
