// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvmf/namespaces.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cerrno>
#include <chrono>
#include <set>
#include <utility>

#include "storage_target/nvmf/countdown.h"
#include "storage_target/reactor/reactor.h"

namespace sma::storage_target::nvmf {

class Namespaces::Namespace final : public bdev::DescriptorEvents {
 public:
  explicit Namespace(Namespaces& owner) : owner_(owner) {}

  // The removal of the namespace closes the descriptor when the last command has ended.
  void OnBdevRemove() override {
    // Destroys this object.
    if (info->nsid == 0)
      return owner_.FailWaiting([this](const Waiting& w) { return w.ns.get() == this; }, ENODEV);
    auto at = owner_.namespaces_.find(info->nsid);
    const bool is_removing = at == owner_.namespaces_.end() || at->second.get() != this;
    if (!is_removing) owner_.Remove(info->nsid, [] {});
  }
  void OnBdevResize() override {
    if (info->nsid != 0) owner_.events_.on_change(info->nsid);
  }

  std::shared_ptr<const NamespaceInfo> info;  // NSID 0: waits for an NSID
  std::unique_ptr<bdev::Descriptor> descriptor;

 private:
  Namespaces& owner_;
};

namespace {

// Returns true if hosts cannot distinguish the two.
bool IsSameDisk(const NamespaceInfo& a, const NamespaceInfo& b) {
  return a.uuid == b.uuid && a.nguid == b.nguid && a.eui64 == b.eui64 &&
         a.block_shift == b.block_shift;
}

// Returns true if the two have an identifier in common. Each identifier names one namespace of a
// subsystem (NVMe Base 2.0 §4.7.1); an EUI-64 of zeroes is not an identifier.
bool ShareIdentifier(const NamespaceInfo& a, const NamespaceInfo& b) {
  const bool has_eui64 = a.eui64 != decltype(a.eui64){};
  return a.uuid == b.uuid || a.nguid == b.nguid || (has_eui64 && a.eui64 == b.eui64);
}

}  // namespace

Namespaces::Namespaces(bdev::Registry& registry, const SubsystemOptions& options, Events events)
    : registry_(registry),
      claimant_(options.nqn),
      max_namespaces_(options.max_namespaces),
      events_(std::move(events)),
      retired_(registry.control(), std::chrono::milliseconds(options.retired_nsid_timeout_ms),
               {.process_received = events_.process_received,
                .on_free = [this] { AddWaiting(); },
                .disconnect_unnotified = events_.disconnect_unnotified}) {}

Namespaces::~Namespaces() { assert(namespaces_.empty() && removing_.empty()); }

// Returns true if the NSID belongs to a namespace, or to a removed one with outstanding I/O.
bool Namespaces::IsTaken(uint32_t nsid) const {
  return namespaces_.count(nsid) != 0 ||
         std::any_of(removing_.begin(), removing_.end(),
                     [&](const auto& entry) { return entry.second->info->nsid == nsid; });
}

bool Namespaces::CanUseNsid(uint32_t nsid, const NamespaceInfo& info) const {
  const NamespaceInfo* before = retired_.Find(nsid);
  return before == nullptr || IsSameDisk(*before, info);
}

// Returns EAGAIN if `wanted`, or every free NSID, is retired; the caller must retry when one is no
// longer retired.
base::ErrnoOr<uint32_t> Namespaces::ChooseNsid(uint32_t wanted, const NamespaceInfo& info) const {
  using Result = base::ErrnoOr<uint32_t>;
  if (wanted != 0) return CanUseNsid(wanted, info) ? wanted : Result::Error(EAGAIN);
  int error = ENOSPC;
  for (uint32_t nsid = 1; nsid <= max_namespaces_; ++nsid) {
    if (IsTaken(nsid)) continue;
    if (CanUseNsid(nsid, info)) return nsid;
    error = EAGAIN;
  }
  return Result::Error(error);
}

base::ErrnoOr<std::unique_ptr<Namespaces::Namespace>> Namespaces::Open(
    const NamespaceOptions& options) {
  using Result = base::ErrnoOr<std::unique_ptr<Namespace>>;
  if (options.nsid > max_namespaces_) return Result::Error(EINVAL);
  if (options.nsid != 0 && IsTaken(options.nsid)) return Result::Error(EEXIST);
  auto ns = std::make_unique<Namespace>(*this);
  auto info = std::make_shared<NamespaceInfo>();
  auto descriptor = registry_.Open(options.bdev_name, bdev::Registry::Access::kWrite, ns.get());
  if (!descriptor.ok() && descriptor.error() == EROFS)
    descriptor = registry_.Open(options.bdev_name, bdev::Registry::Access::kRead, ns.get());
  if (!descriptor.ok()) return Result::Error(descriptor.error());
  if (int error = (*descriptor)->Claim(claimant_); error != 0) return Result::Error(error);
  const bdev::Bdev& bdev = (*descriptor)->bdev();
  info->read_only = bdev.info().read_only;
  info->uuid = options.uuid.is_nil() ? bdev.info().uuid : options.uuid;
  info->nguid = options.nguid.is_nil() ? info->uuid : options.nguid;
  info->eui64 = options.eui64;
  info->descriptor = descriptor->get();
  info->block_shift = static_cast<uint8_t>(std::countr_zero(bdev.block_size()));
  ns->descriptor = std::move(*descriptor);
  ns->info = std::move(info);
  return Result(std::move(ns));
}

void Namespaces::Add(const NamespaceOptions& options, OnAdded done) {
  auto opened = Open(options);
  if (!opened.ok()) return done(base::ErrnoOr<uint32_t>::Error(opened.error()));
  AddOrWait({options.nsid, std::move(*opened), std::move(done)});
  AddWaiting();
}

void Namespaces::AddOrWait(Waiting add) {
  const bool is_duplicate = std::any_of(
      namespaces_.begin(), namespaces_.end(),
      [&](const auto& entry) { return ShareIdentifier(*add.ns->info, *entry.second->info); });
  auto nsid = is_duplicate || (add.nsid != 0 && IsTaken(add.nsid))
                  ? base::ErrnoOr<uint32_t>::Error(EEXIST)
                  : ChooseNsid(add.nsid, *add.ns->info);
  if (!nsid.ok() && nsid.error() == EAGAIN) return waiting_.push_back(std::move(add));
  if (!nsid.ok()) {
    add.ns.reset();
    return add.done(nsid);
  }
  auto info = std::make_shared<NamespaceInfo>(*add.ns->info);
  info->nsid = *nsid;
  add.ns->info = info;
  namespaces_[*nsid] = std::move(add.ns);
  AddToTables(std::move(info), std::move(add.done));
}

// Must be called when an NSID has become free or taken.
void Namespaces::AddWaiting() {
  // Those that wait for a certain NSID come first, so that no other addition takes it.
  for (const bool wants_any : {false, true}) {
    for (size_t left = waiting_.size(); left > 0 && !waiting_.empty(); --left) {
      Waiting first = std::move(waiting_.front());
      waiting_.pop_front();
      if ((first.nsid == 0) == wants_any) {
        AddOrWait(std::move(first));
      } else {
        waiting_.push_back(std::move(first));
      }
    }
  }
  UpdateWanted();
}

void Namespaces::FailWaiting(const std::function<bool(const Waiting&)>& which, int error) {
  std::list<Waiting> failed;
  for (auto at = waiting_.begin(); at != waiting_.end();) {
    auto next = std::next(at);
    if (which(*at)) failed.splice(failed.end(), waiting_, at);
    at = next;
  }
  if (failed.empty()) return;
  UpdateWanted();
  for (Waiting& add : failed) {
    add.ns.reset();
    add.done(base::ErrnoOr<uint32_t>::Error(error));
  }
}

void Namespaces::UpdateWanted() {
  std::set<uint32_t> nsids;
  size_t others = 0;
  for (const Waiting& waiting : waiting_) {
    waiting.nsid != 0 ? void(nsids.insert(waiting.nsid)) : void(++others);
  }
  retired_.SetWanted(nsids, others, [this](uint32_t nsid) { return !IsTaken(nsid); });
}

void Namespaces::AddToTables(std::shared_ptr<const NamespaceInfo> info, OnAdded done) {
  // Hosts are notified only when every reactor has the namespace, so that each command finds it.
  auto added = Countdown(tables_.size(), [this, info, done = std::move(done)] {
    events_.on_change(info->nsid);
    done(info->nsid);
  });
  for (auto& [reactor, table] : tables_) {
    reactor->Post([this, table = table, info, added] {
      table->Add(info);
      registry_.control().Post(added);
    });
  }
}

int Namespaces::Remove(uint32_t nsid, std::function<void()> done) {
  auto at = namespaces_.find(nsid);
  if (at == namespaces_.end()) return ENODEV;
  uint32_t serial = ++last_serial_;
  const std::shared_ptr<const NamespaceInfo> info = at->second->info;
  removing_[serial] = std::move(at->second);
  namespaces_.erase(at);
  auto removed = Countdown(tables_.size(), [this, serial, done = std::move(done)] {
    OnClosed(serial);
    done();
  });
  for (auto& [reactor, table] : tables_) {
    reactor->Post([this, table = table, nsid, removed] {
      table->Remove(nsid, [this, removed] { registry_.control().Post(removed); });
    });
  }
  events_.on_remove(nsid, retired_.Retire(*info));
  return 0;
}

void Namespaces::OnClosed(uint32_t serial) {
  removing_.erase(serial);
  AddWaiting();
  if (!removing_.empty()) return;
  for (auto& done : std::exchange(when_all_removed_, {})) done();
}

void Namespaces::RemoveAll(std::function<void()> done) {
  FailWaiting([](const Waiting&) { return true; }, ECANCELED);
  while (!namespaces_.empty()) Remove(namespaces_.begin()->first, [] {});
  if (removing_.empty()) return done();
  when_all_removed_.push_back(std::move(done));
}

std::shared_ptr<NamespaceTable> Namespaces::TableFor(Reactor& reactor) {
  std::shared_ptr<NamespaceTable>& table = tables_[&reactor];
  if (table == nullptr) {
    table = std::make_shared<NamespaceTable>(reactor);
    reactor.Post([table, present = List()] {
      for (const auto& info : present) table->Add(info);
    });
  }
  return table;
}

std::vector<std::shared_ptr<const NamespaceInfo>> Namespaces::List() const {
  std::vector<std::shared_ptr<const NamespaceInfo>> list;
  for (const auto& [nsid, ns] : namespaces_) list.push_back(ns->info);
  return list;
}

}  // namespace sma::storage_target::nvmf
