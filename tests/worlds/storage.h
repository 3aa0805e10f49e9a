// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace sma::worlds {

/// The data returned by reads of a disk: the medium behind it, and its decryption. Two disks return
/// the same bytes if and only if their contents are equal.
struct Contents {
  std::string medium;
  std::string key;  // empty: not decrypted

  friend bool operator==(const Contents&, const Contents&) = default;
};
std::string ToString(const Contents& contents);

/// An NVMe/TCP or iSCSI address of a storage node.
struct NodeAddress {
  std::string traddr;
  std::string trsvcid;

  friend auto operator<=>(const NodeAddress&, const NodeAddress&) = default;
};

enum class AddressState {
  kUp,
  kDown,     // connections are refused, established ones are lost
  kHanging,  // connections are accepted, commands never answered
};

struct RemoteNamespace {
  std::string uuid;
  std::string medium;

  friend bool operator==(const RemoteNamespace&, const RemoteNamespace&) = default;
};

/// A storage node with NVMe-oF subsystems. Each address serves all subsystems and is a discovery
/// address as well; the discovery log lists every subsystem at every address.
struct StorageNode {
  std::map<NodeAddress, AddressState> addresses;
  std::map<std::string, std::map<uint32_t, RemoteNamespace>> subsystems;  // by NQN and NSID
  /// True if the discovery log of each address contains referrals to all others.
  bool has_referrals = false;
};

/// All remote systems to which a target can connect. Survives restarts of the target.
struct Storage {
  std::map<std::string, StorageNode> nodes;
  std::map<std::string, std::string> iscsi_units;  // URL without CHAP → medium
  bool iscsi_up = true;

  /// Returns the node with this address, in any state; nullptr if there is none.
  const StorageNode* NodeAt(const NodeAddress& address) const;
  std::optional<AddressState> StateOf(const NodeAddress& address) const;
};

}  // namespace sma::worlds
