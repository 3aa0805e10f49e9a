// Messages about one vring.

#include <utility>

#include "target/vhost_user/session.h"
#include "target/virtio/event_fd.h"

namespace sma::target::vhost_user {

// Vrings are made as the front end names them.
Vring* Session::FindVring(uint64_t index) {
  if (index >= kMaxQueues) {
    Refuse("no such vring");
    return nullptr;
  }
  while (vrings_.size() <= index) {
    const auto next = static_cast<uint16_t>(vrings_.size());
    vrings_.push_back(std::make_unique<Vring>(next, control_, owner_.NextReactor()));
  }
  return vrings_[index].get();
}

bool Session::TakeEventFd(base::UniqueFd& eventfd) {
  eventfd.Reset();
  if (message_.fds.empty()) return true;
  eventfd = std::move(message_.fds.front());
  if (virtio::PrepareEventFd(eventfd)) return true;
  Refuse("not an eventfd");
  return false;
}

void Session::ChangeVring(Vring& vring, std::function<void()> change) {
  ChangeStopped({&vring}, [this, change = std::move(change)] {
    change();
    Acknowledge();
  });
}

void Session::SetVringNum() {
  const auto state = message_.As<VringState>();
  Vring* vring = FindVring(state.index);
  if (vring == nullptr) return;
  if (!Vring::IsSize(state.number, environment_.packed())) {
    Refuse("no size that a vring can have");
    return;
  }
  ChangeVring(*vring, [vring, state] { vring->SetSize(static_cast<uint16_t>(state.number)); });
}

void Session::SetVringAddr() {
  const auto addresses = message_.As<VringAddr>();
  Vring* vring = FindVring(addresses.index);
  if (vring == nullptr) return;
  ChangeVring(*vring, [vring, addresses] { vring->SetAddresses(addresses); });
}

void Session::SetVringBase() {
  const auto state = message_.As<VringState>();
  Vring* vring = FindVring(state.index);
  if (vring == nullptr) return;
  ChangeVring(*vring, [vring, state] { vring->SetBase(state.number); });
}

// Stops the vring until it gets a descriptor for kicks again (vhost-user "Ring states").
void Session::GetVringBase() {
  Vring* vring = FindVring(message_.As<VringState>().index);
  if (vring == nullptr) return;
  ChangeStopped({vring}, [this, vring] {
    VringState state = message_.As<VringState>();
    state.number = vring->base();
    vring->BeginAnew();
    vring->SetKick({});
    vring->SetCall({});
    Reply(std::as_bytes(std::span(&state, 1)));
  });
}

void Session::SetVringKick() {
  Vring* vring = FindVring(message_.As<uint64_t>() & kVringIndexMask);
  base::UniqueFd kick;
  if (vring == nullptr || !TakeEventFd(kick)) return;
  auto shared = std::make_shared<base::UniqueFd>(std::move(kick));
  ChangeVring(*vring, [vring, shared] { vring->SetKick(std::move(*shared)); });
}

void Session::SetVringCall() {
  Vring* vring = FindVring(message_.As<uint64_t>() & kVringIndexMask);
  base::UniqueFd call;
  if (vring == nullptr || !TakeEventFd(call)) return;
  vring->SetCall(std::move(call));
  Acknowledge();
}

void Session::SetVringErr() {
  Vring* vring = FindVring(message_.As<uint64_t>() & kVringIndexMask);
  base::UniqueFd error;
  if (vring == nullptr || !TakeEventFd(error)) return;
  vring->SetError(std::move(error));
  Acknowledge();
}

void Session::SetVringEnable() {
  const auto state = message_.As<VringState>();
  Vring* vring = FindVring(state.index);
  if (vring == nullptr) return;
  ChangeVring(*vring, [vring, state] { vring->SetEnabled(state.number != 0); });
}

}  // namespace sma::target::vhost_user
