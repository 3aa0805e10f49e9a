// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvmf/tcp/admission.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace sma::storage_target::nvmf::tcp {

Admission::Admission(const Limits& limits, size_t group_count, Evict evict)
    : limits_(limits), evict_(std::move(evict)), pending_of_group_(group_count) {}

std::string Admission::SourceOf(const std::string& address) {
  in6_addr v6{};
  // A link-local address has its interface after a percent sign.
  if (::inet_pton(AF_INET6, address.substr(0, address.find('%')).c_str(), &v6) != 1) return address;
  std::memset(&v6.s6_addr[8], 0, 8);
  char text[INET6_ADDRSTRLEN] = "";
  ::inet_ntop(AF_INET6, &v6, text, sizeof text);
  return text;
}

bool Admission::MakeRoom(const std::string& address) {
  auto own = pending_.find(address);
  if (own != pending_.end() && own->second.size() >= limits_.pending_of_address) {
    EvictOldest(own->second);
  } else if (pending_count_ >= limits_.pending || connection_count() >= limits_.connections) {
    return EvictOne();
  }
  return connection_count() < limits_.connections;
}

bool Admission::EvictOne() { return EvictFrom(pending_) || EvictFrom(discovery_); }

bool Admission::EvictFrom(Evictable& evictable) {
  auto most = std::max_element(
      evictable.begin(), evictable.end(),
      [](const auto& a, const auto& b) { return a.second.size() < b.second.size(); });
  if (most == evictable.end()) return false;
  EvictOldest(most->second);
  return true;
}

void Admission::EvictOldest(const std::list<Id>& of_address) {
  const Id id = of_address.front();
  Entry& entry = connections_.at(id);
  const State state = entry.evictable == &discovery_ ? State::kDiscovery : State::kPending;
  Leave(entry);
  entry.evicting = true;
  ++evicting_;
  evict_(id, entry.group, state);
}

Admission::Id Admission::Add(const std::string& address, size_t group) {
  const Id id = ++last_id_;
  Entry& entry = connections_[id];
  entry.group = group;
  entry.address = address;
  Enter(pending_, id, entry);
  ++pending_count_;
  ++pending_of_group_[group];
  return id;
}

void Admission::Enter(Evictable& evictable, Id id, Entry& entry) {
  std::list<Id>& of_address = evictable[entry.address];
  entry.evictable = &evictable;
  entry.place = of_address.insert(of_address.end(), id);
}

void Admission::Leave(Entry& entry) {
  Evictable* const evictable = std::exchange(entry.evictable, nullptr);
  if (evictable == nullptr) return;
  auto of_address = evictable->find(entry.address);
  of_address->second.erase(entry.place);
  if (of_address->second.empty()) evictable->erase(of_address);
  if (evictable != &pending_) return;
  --pending_count_;
  --pending_of_group_[entry.group];
}

void Admission::SetConnected(Id id, bool discovery) {
  auto at = connections_.find(id);
  if (at == connections_.end()) return;
  Entry& entry = at->second;
  Leave(entry);
  // Connect has completed before the eviction.
  if (std::exchange(entry.evicting, false)) --evicting_;
  if (discovery) Enter(discovery_, id, entry);
}

void Admission::Remove(Id id) {
  auto at = connections_.find(id);
  if (at == connections_.end()) return;
  Leave(at->second);
  if (at->second.evicting) --evicting_;
  connections_.erase(at);
}

}  // namespace sma::storage_target::nvmf::tcp
