// SPDX-License-Identifier: Apache-2.0

#include "worlds/storage.h"

namespace sma::worlds {

std::string ToString(const Contents& contents) {
  if (contents.key.empty()) return contents.medium + " as it is on the medium";
  return contents.medium + " decrypted with " + contents.key;
}

const StorageNode* Storage::NodeAt(const NodeAddress& address) const {
  for (const auto& [name, node] : nodes) {
    if (node.addresses.contains(address)) return &node;
  }
  return nullptr;
}

std::optional<AddressState> Storage::StateOf(const NodeAddress& address) const {
  const StorageNode* node = NodeAt(address);
  if (node == nullptr) return std::nullopt;
  return node->addresses.at(address);
}

}  // namespace sma::worlds
