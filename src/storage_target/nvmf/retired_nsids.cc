// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvmf/retired_nsids.h"

#include <utility>

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

void RetiredNsids::Want(uint32_t nsid) {
  for (auto& [number, retired] : retired_) {
    if (nsid != 0 && number != nsid) continue;
    retired.wanted = true;
    if (retired.timer == 0 && !retired.notified) callbacks_.disconnect_unnotified(number);
  }
}

void RetiredNsids::OnTimeout(uint32_t nsid, uint64_t serial) {
  Retired* retired = Find(nsid, serial);
  if (retired == nullptr) return;
  retired->timer = 0;
  if (retired->wanted) callbacks_.disconnect_unnotified(nsid);
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
