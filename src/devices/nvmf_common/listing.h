// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/spdk/nvmf.h"
#include "base/context.h"
#include "devices/nvmf_common/known_subsystems.h"
#include "jsonrpc/caller.h"
#include "sma/device_manager.h"

namespace sma::nvmf_common {

/// A snapshot of the target's subsystems.
class SubsystemListing : public DeviceListing {
 public:
  explicit SubsystemListing(std::vector<spdk::Subsystem> subsystems) {
    for (spdk::Subsystem& subsystem : subsystems) {
      std::string nqn = subsystem.nqn;
      subsystems_.emplace(std::move(nqn), std::move(subsystem));
    }
  }

  /// Returns null if there was none with this NQN.
  const spdk::Subsystem* Find(const std::string& nqn) const {
    auto found = subsystems_.find(nqn);
    return found == subsystems_.end() ? nullptr : &found->second;
  }
  /// See DeviceManager::FingerprintOf. Returns 0 if there was no subsystem with this NQN.
  uint64_t FingerprintOf(const std::string& nqn) const;
  const std::map<std::string, spdk::Subsystem>& subsystems() const { return subsystems_; }

 private:
  std::map<std::string, spdk::Subsystem> subsystems_;
};

/// Lists all subsystems, and notes their names in `known`.
absl::StatusOr<std::unique_ptr<SubsystemListing>> ListSubsystems(jsonrpc::Caller& target,
                                                                 const base::Context& context,
                                                                 KnownSubsystems& known);

/// Lists at least the subsystems with these NQNs.
absl::StatusOr<std::unique_ptr<SubsystemListing>> ListSubsystems(jsonrpc::Caller& target,
                                                                 const base::Context& context,
                                                                 KnownSubsystems& known,
                                                                 std::span<const std::string> nqns);

}  // namespace sma::nvmf_common
