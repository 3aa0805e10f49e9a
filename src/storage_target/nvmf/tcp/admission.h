// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <string>
#include <unordered_map>
#include <vector>

namespace sma::storage_target::nvmf::tcp {

/// Limits the connections of a transport: their total number, and separately the number of pending
/// ones (before ICReq and Connect have completed), in total and for each address. At a limit, the
/// oldest pending connection of the address with the most pending connections is evicted, so that
/// hosts that connect promptly are not locked out by others that do not. If the total number is
/// reached and none is pending, a connection to the discovery subsystem is evicted in the same
/// way, because such connections need no permission. Owned by the control reactor.
class Admission {
 public:
  using Id = uint64_t;  // never 0

  struct Limits {
    uint32_t connections = 16384;
    uint32_t pending = 1024;             // before Connect has completed
    uint32_t pending_of_address = 1024;  // per address; at most `pending`
  };
  enum class State { kPending, kDiscovery };
  /// Asks `group`, the index passed to Add, to close a connection if it is still in `state`: one
  /// whose Connect is in progress, or has completed in the meantime, is no longer pending. Remove
  /// or SetConnected is called afterwards.
  using Evict = std::function<void(Id id, size_t group, State state)>;

  Admission(const Limits& limits, size_t group_count, Evict evict);

  /// Returns true if a connection from `address` (see SourceOf) can be accepted, possibly after
  /// evicting another one. Does not add it.
  bool MakeRoom(const std::string& address);
  /// Evicts the oldest pending connection of the address with the most of them, or else a
  /// connection to the discovery subsystem. Returns false if there is neither.
  bool EvictOne();
  /// Adds a connection that `group` will serve.
  Id Add(const std::string& address, size_t group);
  /// Must be called when Connect has completed; `discovery` is true for the discovery subsystem.
  /// Unknown IDs are ignored.
  void SetConnected(Id id, bool discovery);
  /// Must be called when the connection is closed. Unknown IDs are ignored.
  void Remove(Id id);

  /// Returns the number of pending connections of a group, without those being evicted.
  uint32_t pending(size_t group) const { return pending_of_group_[group]; }
  size_t connection_count() const { return connections_.size() - evicting_; }

  /// Returns the key by which addresses are counted: an IPv4 address, or the first 64 bits of an
  /// IPv6 address, because one host can use any address of such a prefix (RFC 4291 section 2.5.1).
  /// Other text is returned unchanged.
  static std::string SourceOf(const std::string& address);

 private:
  // Connections that may be evicted, by address; those of an address oldest first.
  using Evictable = std::unordered_map<std::string, std::list<Id>>;
  struct Entry {
    size_t group = 0;
    bool evicting = false;
    std::string address;
    Evictable* evictable = nullptr;  // pending_ or discovery_; null: neither
    std::list<Id>::iterator place;   // valid while `evictable` is set
  };

  bool EvictFrom(Evictable& evictable);
  void EvictOldest(const std::list<Id>& of_address);
  void Enter(Evictable& evictable, Id id, Entry& entry);
  void Leave(Entry& entry);

  const Limits limits_;
  const Evict evict_;
  std::unordered_map<Id, Entry> connections_;
  Evictable pending_;
  Evictable discovery_;
  std::vector<uint32_t> pending_of_group_;
  uint32_t pending_count_ = 0;
  size_t evicting_ = 0;
  Id last_id_ = 0;
};

}  // namespace sma::storage_target::nvmf::tcp
