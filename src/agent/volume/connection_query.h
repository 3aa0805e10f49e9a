// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/spdk/bdev.h"
#include "agent/spdk/bdev_nvme.h"
#include "agent/spdk/notify.h"
#include "agent/spdk/vhost.h"
#include "base/mutex.h"
#include "base/uuid.h"
#include "jsonrpc/caller.h"

namespace sma::volume {

/// What is removed from the target together with a connection, and who uses it.
struct Dependents {
  std::set<std::string> controllers;
  std::set<std::string> nqns;                              // of the controllers' subsystems
  std::map<std::string, std::optional<spdk::Bdev>> bdevs;  // the names that were queried
  std::vector<spdk::VhostController> vhosts;               // all of the target

  bool Has(const std::string& bdev_name) const;
  /// Returns, for a message, who uses a bdev of the connection, other than through a volume for
  /// which `is_ours` returns true; empty if nobody is known to. A bdev is in use if it is claimed,
  /// by a subsystem or a bdev on top of it, or is the disk of a vhost controller, which claims
  /// nothing.
  std::string FindOtherUse(const std::function<bool(const base::Uuid&)>& is_ours) const;
};

/// The names of bdevs that may belong to a connection. A target lists all bdevs or one by name, but
/// not those of a controller; a list of all may be too large for it to answer. Their names are
/// therefore taken from the events of the target, and the first namespaces of each controller are
/// guessed. A namespace with a high NSID is not found if its event was not read, because the agent
/// was not running, or the target had dropped it. Thread-safe.
class BdevNames {
 public:
  /// Notes bdevs of the agent's controllers that were registered or unregistered.
  void Note(const std::vector<spdk::BdevEvent>& events);
  /// Returns the names of bdevs that the controllers may have.
  std::set<std::string> Of(const std::set<std::string>& controllers) const;

 private:
  mutable base::Mutex mutex_;
  std::map<std::string, std::set<std::string>> heard_ SMA_GUARDED_BY(mutex_);  // by controller
};

/// Parses the answer of vhost_get_controllers; an empty list if the target has no vhost.
absl::StatusOr<std::vector<spdk::VhostController>> ParseVhosts(
    const absl::StatusOr<jsonrpc::Json>& answer);

}  // namespace sma::volume
