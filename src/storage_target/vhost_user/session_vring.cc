// SPDX-License-Identifier: Apache-2.0

// Handlers of messages about one vring.

#include <utility>

#include "storage_target/vhost_user/session.h"
#include "storage_target/virtio/event_fd.h"

namespace sma::storage_target::vhost_user {

// Vrings are created when the front end first names them.
Vring* Session::FindVring(uint64_t index) {
  if (index >= kMaxQueues) {
    Refuse("no such vring");
    return nullptr;
  }
  while (vrings_.size() <= index) {
    const auto next = static_cast<uint16_t>(vrings_.size());
    Reactor& reactor = owner_.NextReactor();
    vrings_.push_back(std::make_unique<Vring>(next, control_, reactor, owner_.TurnIn(reactor)));
  }
  return vrings_[index].get();
}

size_t Session::eventfd_count() const {
  size_t count = 0;
  for (const auto& vring : vrings_) count += vring->eventfd_count();
  return count;
}

bool Session::TakeEventFd(const Vring& vring, Vring::EventFdKind kind, base::UniqueFd& eventfd) {
  eventfd.Reset();
  if (message_.fds.empty()) return true;
  if (!virtio::PrepareEventFd(message_.fds.front().get())) {
    Refuse("not an eventfd");
    return false;
  }
  if (!vring.has_eventfd(kind) &&
      !virtio::MayKeepDescriptor(message_.fds.front().get(), owner_.eventfd_count())) {
    Refuse("too few descriptors are left for other guests");
    return false;
  }
  eventfd = message_.fds.front().Take();
  return true;
}

void Session::ChangeVring(Vring& vring, std::function<void()> change) {
  ChangeWhileStopped({&vring}, [this, change = std::move(change)] {
    change();
    Acknowledge();
  });
}

void Session::SetVringNum() {
  const auto state = message_.As<VringState>();
  Vring* vring = FindVring(state.index);
  if (vring == nullptr) return;
  if (!Vring::IsValidSize(state.number, environment_.packed())) {
    Refuse("invalid vring size");
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

// Stops the vring until it receives a kick descriptor again (vhost-user "Ring states").
void Session::GetVringBase() {
  Vring* vring = FindVring(message_.As<VringState>().index);
  if (vring == nullptr) return;
  ChangeWhileStopped({vring}, [this, vring] {
    VringState state = message_.As<VringState>();
    state.number = vring->base();
    vring->IgnoreInflight();
    vring->SetKick({});
    vring->SetCall({});
    Reply(std::as_bytes(std::span(&state, 1)));
  });
}

void Session::SetVringKick() {
  Vring* vring = FindVring(message_.As<uint64_t>() & kVringIndexMask);
  base::UniqueFd kick;
  if (vring == nullptr || !TakeEventFd(*vring, Vring::kKick, kick)) return;
  auto shared = std::make_shared<base::UniqueFd>(std::move(kick));
  ChangeVring(*vring, [vring, shared] { vring->SetKick(std::move(*shared)); });
}

void Session::SetVringEventFd(Vring::EventFdKind kind, void (Vring::*set)(base::UniqueFd)) {
  Vring* vring = FindVring(message_.As<uint64_t>() & kVringIndexMask);
  base::UniqueFd event_fd;
  if (vring == nullptr || !TakeEventFd(*vring, kind, event_fd)) return;
  (vring->*set)(std::move(event_fd));
  Acknowledge();
}

void Session::SetVringCall() { SetVringEventFd(Vring::kCall, &Vring::SetCall); }

void Session::SetVringErr() { SetVringEventFd(Vring::kError, &Vring::SetError); }

void Session::SetVringEnable() {
  const auto state = message_.As<VringState>();
  Vring* vring = FindVring(state.index);
  if (vring == nullptr) return;
  ChangeVring(*vring, [vring, state] { vring->SetEnabled(state.number != 0); });
}

}  // namespace sma::storage_target::vhost_user
