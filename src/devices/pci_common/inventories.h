// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <map>
#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "agent/qmp/hot_plug.h"
#include "base/context.h"
#include "base/mutex.h"

namespace sma::pci_common {

/// The devices plugged into VMs, for one comparison. Each VM is queried once, when the first of its
/// devices is compared, so that a slow VM delays only its own devices. Thread-safe.
class Inventories {
 public:
  /// Returns the devices of the VM; valid as long as this object. Blocks up to two seconds while
  /// the VM is queried. Returns UNAVAILABLE or another error if the query failed, the same for all
  /// devices of the VM.
  absl::StatusOr<const qmp::Inventory*> Of(const base::Context& context, qmp::Client& vm);

 private:
  struct Entry {
    base::Mutex mutex;  // held while the VM is queried
    std::optional<absl::StatusOr<qmp::Inventory>> inventory SMA_GUARDED_BY(mutex);
  };

  base::Mutex mutex_;
  std::map<const qmp::Client*, std::unique_ptr<Entry>> by_vm_ SMA_GUARDED_BY(mutex_);
};

}  // namespace sma::pci_common
