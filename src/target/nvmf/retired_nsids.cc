#include "target/nvmf/retired_nsids.h"

#include <utility>

#include "target/reactor/reactor.h"

namespace sma::target::nvmf {

RetiredNsids::RetiredNsids(Reactor& control, std::chrono::milliseconds timeout, CatchUp catch_up,
                           std::function<void()> on_free)
    : control_(control),
      timeout_(timeout),
      catch_up_(std::move(catch_up)),
      on_free_(std::move(on_free)) {}

RetiredNsids::~RetiredNsids() {
  for (auto& [nsid, retired] : retired_) control_.CancelTimer(retired.timer);
}

RetiredNsids::Untold RetiredNsids::Retire(const NamespaceInfo& info) {
  Retired& retired = retired_[info.nsid];
  control_.CancelTimer(retired.timer);
  retired = {.info = info, .serial = ++last_serial_};
  retired.info.descriptor = nullptr;
  const uint32_t nsid = info.nsid;
  const uint64_t serial = retired.serial;
  retired.timer = control_.AddTimer(timeout_, [this, nsid, serial] { OnTold(nsid, serial); });
  // The last copy goes in any thread.
  return {nullptr, [this, &control = control_, weak = std::weak_ptr(alive_), nsid, serial](void*) {
            auto on_told = [this, weak, nsid, serial] {
              if (weak.lock() != nullptr) OnTold(nsid, serial);
            };
            if (Reactor::Current() == &control) return on_told();
            control.Post(on_told);
          }};
}

const NamespaceInfo* RetiredNsids::Find(uint32_t nsid) const {
  auto at = retired_.find(nsid);
  return at == retired_.end() ? nullptr : &at->second.info;
}

RetiredNsids::Retired* RetiredNsids::Find(uint32_t nsid, uint64_t serial) {
  auto at = retired_.find(nsid);
  return at == retired_.end() || at->second.serial != serial ? nullptr : &at->second;
}

void RetiredNsids::OnTold(uint32_t nsid, uint64_t serial) {
  Retired* retired = Find(nsid, serial);
  if (retired == nullptr) return;
  control_.CancelTimer(std::exchange(retired->timer, 0));
  catch_up_([this, weak = std::weak_ptr(alive_), nsid, serial] {
    if (weak.lock() != nullptr) Free(nsid, serial);
  });
}

void RetiredNsids::Free(uint32_t nsid, uint64_t serial) {
  if (Find(nsid, serial) == nullptr) return;
  retired_.erase(nsid);
  on_free_();
}

}  // namespace sma::target::nvmf
