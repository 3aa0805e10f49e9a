#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <string>
#include <unordered_map>
#include <vector>

namespace sma::target::nvmf::tcp {

/// The connections that a transport has accepted: bounds their number, and apart from that the
/// number of those that have not logged in yet (ICReq and Connect), in all and of one address. At a
/// bound the oldest connection without login of the address with the most of them makes room, so
/// that a host that logs in promptly is not locked out by one that does not. Owned by the control
/// reactor's thread.
class Admission {
 public:
  using Id = uint64_t;  // never 0

  struct Limits {
    uint32_t connections = 16384;
    uint32_t pending = 1024;             // before login
    uint32_t pending_of_address = 1024;  // of one address; at most `pending`
  };
  /// Asks `group`, the index that Add was given, to close a connection, unless its Connect is under
  /// way. Gone or LoggedIn follows.
  using Evict = std::function<void(Id id, size_t group)>;

  Admission(const Limits& limits, size_t group_count, Evict evict);

  /// Whether there is room for a connection from `address` (see SourceOf), perhaps made by evicting
  /// another. Does not add it.
  bool MakeRoom(const std::string& address);
  /// Evicts the oldest connection without login of the address with the most of them. False: there
  /// is none.
  bool EvictPending();
  /// Adds a connection that `group` will serve.
  Id Add(const std::string& address, size_t group);
  /// The connection has logged in. Unknown ids are ignored.
  void LoggedIn(Id id);
  /// The connection is closed. Unknown ids are ignored.
  void Gone(Id id);

  /// Connections without login that a group serves, those about to be evicted not counted.
  uint32_t pending(size_t group) const { return pending_of_group_[group]; }
  size_t connection_count() const { return connections_.size() - evicting_; }

  /// What counts as one address: an IPv4 address, or the first 64 bits of an IPv6 address, which is
  /// what one host can choose from (RFC 4291 section 2.5.1). Other text stands for itself.
  static std::string SourceOf(const std::string& address);

 private:
  using PendingOfAddress = std::unordered_map<std::string, std::list<Id>>;
  struct Entry {
    size_t group = 0;
    bool pending = true;
    bool evicting = false;
    std::string address;            // while pending
    std::list<Id>::iterator place;  // while pending
  };

  void EvictOldest(PendingOfAddress::iterator of_address);
  void RemovePending(Entry& entry);

  const Limits limits_;
  const Evict evict_;
  std::unordered_map<Id, Entry> connections_;
  PendingOfAddress pending_;  // oldest first
  std::vector<uint32_t> pending_of_group_;
  uint32_t pending_count_ = 0;
  size_t evicting_ = 0;
  Id last_id_ = 0;
};

}  // namespace sma::target::nvmf::tcp
