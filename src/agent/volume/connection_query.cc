// SPDX-License-Identifier: Apache-2.0

#include "agent/volume/connection_query.h"

#include <fmt/format.h>

#include <algorithm>

#include "agent/volume/connection_names.h"
#include "jsonrpc/error.h"

namespace sma::volume {

using base::MutexLock;
using base::Uuid;
using spdk::BdevEvent;

namespace {

// How many namespaces are guessed: SPDK's subsystems have 32 by default. A service with many
// controllers gets fewer of each, so that one batch has about kMaxGuesses requests.
constexpr size_t kMaxNamespaces = 32;
constexpr size_t kMaxGuesses = 128;
// The maximum number of names that are kept for one controller.
constexpr size_t kMaxHeard = 1024;

}  // namespace

bool Dependents::Has(const std::string& bdev_name) const {
  const std::optional<std::string> controller = ControllerOfBdev(bdev_name);
  return controller && controllers.contains(*controller);
}

std::string Dependents::FindOtherUse(const std::function<bool(const Uuid&)>& is_ours) const {
  for (const auto& [name, bdev] : bdevs) {
    if (!bdev || !bdev->claimed || !Has(bdev->name)) continue;
    if (!bdev->uuid || !is_ours(*bdev->uuid)) return fmt::format("bdev {} is claimed", bdev->name);
  }
  for (const spdk::VhostController& vhost : vhosts) {
    if (!Has(vhost.bdev_name)) continue;
    auto found = bdevs.find(vhost.bdev_name);
    const bool is_known = found != bdevs.end() && found->second && found->second->uuid;
    if (is_known && is_ours(*found->second->uuid)) continue;
    return fmt::format("vhost controller {} has bdev {}", vhost.name, vhost.bdev_name);
  }
  return {};
}

void BdevNames::Note(const std::vector<BdevEvent>& events) {
  MutexLock lock(mutex_);
  for (const BdevEvent& event : events) {
    const std::optional<std::string> controller = ControllerOfBdev(event.bdev_name);
    if (!controller || !HasAgentsForm(*controller)) continue;
    if (event.kind == BdevEvent::Kind::kRegistered) {
      std::set<std::string>& names = heard_[*controller];
      if (names.size() < kMaxHeard) names.insert(event.bdev_name);
    } else if (event.kind == BdevEvent::Kind::kUnregistered) {
      auto found = heard_.find(*controller);
      if (found == heard_.end()) continue;
      found->second.erase(event.bdev_name);
      if (found->second.empty()) heard_.erase(found);
    }
  }
}

std::set<std::string> BdevNames::Of(const std::set<std::string>& controllers) const {
  std::set<std::string> names;
  if (controllers.empty()) return names;
  const size_t guesses = std::clamp<size_t>(kMaxGuesses / controllers.size(), 1, kMaxNamespaces);
  MutexLock lock(mutex_);
  for (const std::string& controller : controllers) {
    for (size_t nsid = 1; nsid <= guesses; ++nsid) {
      names.insert(fmt::format("{}n{}", controller, nsid));
    }
    auto found = heard_.find(controller);
    if (found != heard_.end()) names.insert(found->second.begin(), found->second.end());
  }
  return names;
}

absl::StatusOr<std::vector<spdk::VhostController>> ParseVhosts(
    const absl::StatusOr<jsonrpc::Json>& answer) {
  const auto error = jsonrpc::GetTargetError(answer.status());
  if (error && error->code == jsonrpc::kMethodNotFound) {
    return std::vector<spdk::VhostController>();
  }
  if (!answer.ok()) return answer.status();
  return spdk::ParseVhostControllers(*answer);
}

}  // namespace sma::volume
