// SPDX-License-Identifier: Apache-2.0

#include "devices/vhost_blk/listing.h"

#include <algorithm>
#include <utility>

#include "absl/hash/hash.h"

namespace sma::vhost_blk {

Listing::Listing(std::vector<spdk::VhostController> controllers, std::vector<spdk::Bdev> bdevs) {
  for (spdk::VhostController& controller : controllers) {
    std::string name = controller.name;
    controllers_.emplace(std::move(name), std::move(controller));
  }
  for (spdk::Bdev& bdev : bdevs) {
    for (const std::string& alias : bdev.aliases) bdev_names_[alias] = bdev.name;
    bdev_names_[bdev.name] = bdev.name;
    if (!bdev.uuid) continue;
    identities_[bdev.name] = {.uuid = *bdev.uuid,
                              .hash = absl::HashOf(bdev.uuid->ToBytes(), bdev.aliases)};
  }
}

std::optional<spdk::VhostController> Listing::FindController(const std::string& name) const {
  auto found = controllers_.find(name);
  return found == controllers_.end() ? std::nullopt : std::optional(found->second);
}

std::optional<std::string> Listing::FindBdevName(const std::string& name) const {
  auto found = bdev_names_.find(name);
  return found == bdev_names_.end() ? std::nullopt : std::optional(found->second);
}

std::optional<base::Uuid> Listing::FindUuid(const std::string& bdev_name) const {
  auto found = identities_.find(bdev_name);
  return found == identities_.end() ? std::nullopt : std::optional(found->second.uuid);
}

uint64_t Listing::FingerprintOf(const std::string& controller) const {
  auto found = controllers_.find(controller);
  if (found == controllers_.end()) return 0;
  auto bdev = identities_.find(found->second.bdev_name);
  if (bdev == identities_.end()) return 0;
  return std::max<uint64_t>(1, absl::HashOf(controller, bdev->first, bdev->second.hash));
}

}  // namespace sma::vhost_blk
