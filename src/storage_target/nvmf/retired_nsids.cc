// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvmf/retired_nsids.h"

#include <algorithm>
#include <tuple>
#include <utility>
#include <vector>

#include "storage_target/reactor/reactor.h"

namespace sma::storage_target::nvmf {

RetiredNsids::RetiredNsids(Reactor& control, std::chrono::milliseconds timeout, Callbacks callbacks)
    : control_(control), timeout_(timeout), callbacks_(std::move(callbacks)) {}

RetiredNsids::~RetiredNsids() {
  for (auto& [nsid, retired] : retired_) control_.CancelTimer(retired.timer);
}

RetiredNsids::Unnotified RetiredNsids::Retire(const NamespaceInfo& info) {
  Retired& retired = retired_[info.nsid];
  control_.CancelTimer(retired.timer);
  retired = {.info = info, .serial = ++last_serial_};
  retired.info.descriptor = nullptr;
  const uint32_t nsid = info.nsid;
  const uint64_t serial = retired.serial;
  retired.timer = control_.AddTimer(timeout_, [this, nsid, serial] { OnTimeout(nsid, serial); });
  // The last copy may be destroyed in any thread.
  return {nullptr, [this, &control = control_, weak = std::weak_ptr(alive_), nsid, serial](void*) {
            auto on_notified = [this, weak, nsid, serial] {
              if (weak.lock() != nullptr) OnNotified(nsid, serial);
            };
            if (Reactor::Current() == &control) return on_notified();
            control.Post(on_notified);
          }};
}

const NamespaceInfo* RetiredNsids::Find(uint32_t nsid) const {
  auto at = retired_.find(nsid);
  return at == retired_.end() ? nullptr : &at->second.info;
}

// Returns `nsids` and the NSIDs for `others`, without those that will be free soon.
std::set<uint32_t> RetiredNsids::Choose(const std::set<uint32_t>& nsids, size_t others,
                                        const std::function<bool(uint32_t)>& is_usable) const {
  std::set<uint32_t> chosen = nsids;
  std::vector<std::tuple<bool, uint64_t, uint32_t>> candidates;
  for (const auto& [nsid, retired] : retired_) {
    if (nsids.contains(nsid) || !is_usable(nsid)) continue;
    if (!retired.notified) {
      candidates.emplace_back(!retired.disconnected, retired.serial, nsid);
    } else if (others > 0) {
      --others;
    }
  }
  std::ranges::sort(candidates);
  candidates.resize(std::min(candidates.size(), others));
  for (const auto& candidate : candidates) chosen.insert(std::get<uint32_t>(candidate));
  return chosen;
}

void RetiredNsids::SetWanted(const std::set<uint32_t>& nsids, size_t others,
                             const std::function<bool(uint32_t)>& is_usable) {
  const std::set<uint32_t> wanted = Choose(nsids, others, is_usable);
  for (auto& [nsid, retired] : retired_) {
    retired.wanted = wanted.contains(nsid);
    DisconnectIfDue(nsid, retired);
  }
}

void RetiredNsids::DisconnectIfDue(uint32_t nsid, Retired& retired) {
  if (!retired.wanted || retired.timer != 0 || retired.notified) return;
  if (!std::exchange(retired.disconnected, true)) callbacks_.disconnect_unnotified(nsid);
}

void RetiredNsids::OnTimeout(uint32_t nsid, uint64_t serial) {
  Retired* retired = Find(nsid, serial);
  if (retired == nullptr) return;
  retired->timer = 0;
  DisconnectIfDue(nsid, *retired);
}

RetiredNsids::Retired* RetiredNsids::Find(uint32_t nsid, uint64_t serial) {
  auto at = retired_.find(nsid);
  return at == retired_.end() || at->second.serial != serial ? nullptr : &at->second;
}

void RetiredNsids::OnNotified(uint32_t nsid, uint64_t serial) {
  Retired* retired = Find(nsid, serial);
  if (retired == nullptr) return;
  control_.CancelTimer(std::exchange(retired->timer, 0));
  retired->notified = true;
  callbacks_.process_received([this, weak = std::weak_ptr(alive_), nsid, serial] {
    if (weak.lock() != nullptr) Free(nsid, serial);
  });
}

void RetiredNsids::Free(uint32_t nsid, uint64_t serial) {
  if (Find(nsid, serial) == nullptr) return;
  retired_.erase(nsid);
  callbacks_.on_free();
}

}  // namespace sma::storage_target::nvmf
