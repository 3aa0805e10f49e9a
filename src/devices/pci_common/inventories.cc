#include "devices/pci_common/inventories.h"

#include <chrono>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

namespace sma::pci_common {
namespace {

// QEMU answers such questions within milliseconds.
constexpr std::chrono::seconds kAnswerTime{2};

}  // namespace

Inventories Inventories::Take(const base::Context& context, const qmp::Buses& buses) {
  const base::Context limited = context.Child(std::chrono::steady_clock::now() + kAnswerTime);
  const std::vector<std::shared_ptr<qmp::Client>> vms = buses.machines();
  std::vector<absl::StatusOr<qmp::Inventory>> taken(vms.size());
  std::vector<std::thread> threads;
  for (size_t i = 0; i < vms.size(); ++i) {
    threads.emplace_back([&, i] { taken[i] = qmp::TakeInventory(*vms[i], limited); });
  }
  for (std::thread& thread : threads) thread.join();
  Inventories inventories;
  for (size_t i = 0; i < vms.size(); ++i) {
    if (absl::IsDeadlineExceeded(taken[i].status())) {
      taken[i] =
          absl::UnavailableError("QEMU at " + vms[i]->address().ToString() + " does not answer");
    }
    inventories.by_vm_.emplace(vms[i].get(), std::move(taken[i]));
  }
  return inventories;
}

absl::StatusOr<bool> Inventories::IsPlugged(const qmp::Client& vm, const std::string& id) const {
  auto found = by_vm_.find(&vm);
  if (found == by_vm_.end()) return absl::InternalError("the VM was not listed");
  if (!found->second.ok()) return found->second.status();
  return found->second->devices.contains(id);
}

}  // namespace sma::pci_common
