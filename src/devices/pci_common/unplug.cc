// SPDX-License-Identifier: Apache-2.0

#include "devices/pci_common/unplug.h"

#include <fmt/format.h>

#include <string>

namespace sma::pci_common {

Outcome UnplugOutcome(const base::Context& context, const absl::Status& status) {
  if (!absl::IsDeadlineExceeded(status) || context.done()) return status;
  return Outcome::UnderWay(absl::UnavailableError(fmt::format(
      "{}; the device will be deleted once it has been released", std::string(status.message()))));
}

bool IsLongGone(std::optional<base::TimePoint> since, std::chrono::nanoseconds wait) {
  return since && std::chrono::steady_clock::now() - *since >= wait;
}

}  // namespace sma::pci_common
