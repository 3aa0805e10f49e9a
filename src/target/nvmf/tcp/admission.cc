#include "target/nvmf/tcp/admission.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace sma::target::nvmf::tcp {

Admission::Admission(const Limits& limits, size_t group_count, Evict evict)
    : limits_(limits), evict_(std::move(evict)), pending_of_group_(group_count) {}

std::string Admission::SourceOf(const std::string& address) {
  in6_addr v6{};
  // A link-local address carries its interface after a percent sign.
  if (::inet_pton(AF_INET6, address.substr(0, address.find('%')).c_str(), &v6) != 1) return address;
  std::memset(&v6.s6_addr[8], 0, 8);
  char text[INET6_ADDRSTRLEN] = "";
  ::inet_ntop(AF_INET6, &v6, text, sizeof text);
  return text;
}

bool Admission::MakeRoom(const std::string& address) {
  auto own = pending_.find(address);
  if (own != pending_.end() && own->second.size() >= limits_.pending_of_address) {
    EvictOldest(own);
  } else if (pending_count_ >= limits_.pending || connection_count() >= limits_.connections) {
    return EvictPending();
  }
  return connection_count() < limits_.connections;
}

bool Admission::EvictPending() {
  auto most = std::max_element(pending_.begin(), pending_.end(), [](const auto& a, const auto& b) {
    return a.second.size() < b.second.size();
  });
  if (most == pending_.end()) return false;
  EvictOldest(most);
  return true;
}

void Admission::EvictOldest(PendingOfAddress::iterator of_address) {
  Id id = of_address->second.front();
  Entry& entry = connections_.at(id);
  RemovePending(entry);
  entry.evicting = true;
  ++evicting_;
  evict_(id, entry.group);
}

Admission::Id Admission::Add(const std::string& address, size_t group) {
  Id id = ++last_id_;
  std::list<Id>& of_address = pending_[address];
  Entry& entry = connections_[id];
  entry.group = group;
  entry.address = address;
  entry.place = of_address.insert(of_address.end(), id);
  ++pending_count_;
  ++pending_of_group_[group];
  return id;
}

void Admission::RemovePending(Entry& entry) {
  if (!std::exchange(entry.pending, false)) return;
  auto of_address = pending_.find(entry.address);
  of_address->second.erase(entry.place);
  if (of_address->second.empty()) pending_.erase(of_address);
  entry.address.clear();
  --pending_count_;
  --pending_of_group_[entry.group];
}

void Admission::LoggedIn(Id id) {
  auto at = connections_.find(id);
  if (at == connections_.end()) return;
  RemovePending(at->second);
  // Its Connect came first.
  if (std::exchange(at->second.evicting, false)) --evicting_;
}

void Admission::Gone(Id id) {
  auto at = connections_.find(id);
  if (at == connections_.end()) return;
  RemovePending(at->second);
  if (at->second.evicting) --evicting_;
  connections_.erase(at);
}

}  // namespace sma::target::nvmf::tcp
