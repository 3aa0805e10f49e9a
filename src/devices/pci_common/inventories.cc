// SPDX-License-Identifier: Apache-2.0

#include "devices/pci_common/inventories.h"

#include <chrono>
#include <utility>

namespace sma::pci_common {
namespace {

// QEMU answers these queries within milliseconds.
constexpr std::chrono::seconds kAnswerTime{2};

absl::StatusOr<qmp::Inventory> QueryInventory(const base::Context& context, qmp::Client& vm) {
  const base::Context limited = context.Child(std::chrono::steady_clock::now() + kAnswerTime);
  absl::StatusOr<qmp::Inventory> inventory = qmp::GetInventory(vm, limited);
  if (!absl::IsDeadlineExceeded(inventory.status())) return inventory;
  return absl::UnavailableError("QEMU at " + vm.address().ToString() + " does not answer");
}

}  // namespace

absl::StatusOr<const qmp::Inventory*> Inventories::Of(const base::Context& context,
                                                      qmp::Client& vm) {
  Entry* entry = nullptr;
  {
    base::MutexLock lock(mutex_);
    std::unique_ptr<Entry>& slot = by_vm_[&vm];
    if (!slot) slot = std::make_unique<Entry>();
    entry = slot.get();
  }
  base::MutexLock lock(entry->mutex);
  if (!entry->inventory) entry->inventory = QueryInventory(context, vm);
  if (!entry->inventory->ok()) return entry->inventory->status();
  return &**entry->inventory;
}

}  // namespace sma::pci_common
