#include "target/nvmf/namespaces.h"

#include <bit>
#include <cassert>
#include <cerrno>

#include "target/nvmf/countdown.h"
#include "target/reactor/reactor.h"

namespace sma::target::nvmf {

class Namespaces::Namespace final : public bdev::DescriptorEvents {
 public:
  explicit Namespace(Namespaces& owner) : owner_(owner) {}

  // The removal closes the descriptor when the last command has ended.
  void OnBdevRemove() override {
    owner_.Remove(info->nsid, [] {});
  }
  void OnBdevResize() override { owner_.on_change_(info->nsid); }

  std::shared_ptr<const NamespaceInfo> info;
  std::unique_ptr<bdev::Descriptor> descriptor;

 private:
  Namespaces& owner_;
};

Namespaces::Namespaces(bdev::Registry& registry, std::string claimant, uint32_t max_namespaces,
                       OnChange on_change)
    : registry_(registry),
      claimant_(std::move(claimant)),
      max_namespaces_(max_namespaces),
      on_change_(std::move(on_change)) {}

Namespaces::~Namespaces() { assert(namespaces_.empty() && removing_.empty()); }

base::ErrnoOr<uint32_t> Namespaces::ChooseNsid(uint32_t wanted) const {
  if (wanted > max_namespaces_) return base::ErrnoOr<uint32_t>::Error(EINVAL);
  if (wanted != 0) {
    return namespaces_.count(wanted) == 0 ? wanted : base::ErrnoOr<uint32_t>::Error(EEXIST);
  }
  uint32_t nsid = 1;
  for (const auto& [taken, ns] : namespaces_) {
    if (taken != nsid) break;
    ++nsid;
  }
  return nsid <= max_namespaces_ ? nsid : base::ErrnoOr<uint32_t>::Error(ENOSPC);
}

base::ErrnoOr<std::unique_ptr<Namespaces::Namespace>> Namespaces::Make(
    const NamespaceOptions& options) {
  using Result = base::ErrnoOr<std::unique_ptr<Namespace>>;
  auto nsid = ChooseNsid(options.nsid);
  if (!nsid.ok()) return Result::Error(nsid.error());
  auto ns = std::make_unique<Namespace>(*this);
  auto info = std::make_shared<NamespaceInfo>();
  auto descriptor = registry_.Open(options.bdev_name, bdev::Registry::Access::kWrite, ns.get());
  if (!descriptor.ok() && descriptor.error() == EROFS) {
    info->read_only = true;
    descriptor = registry_.Open(options.bdev_name, bdev::Registry::Access::kRead, ns.get());
  }
  if (!descriptor.ok()) return Result::Error(descriptor.error());
  if (int error = (*descriptor)->Claim(claimant_); error != 0) return Result::Error(error);
  const bdev::Bdev& bdev = (*descriptor)->bdev();
  info->nsid = *nsid;
  info->uuid = options.uuid.is_nil() ? bdev.info().uuid : options.uuid;
  info->nguid = options.nguid.is_nil() ? info->uuid : options.nguid;
  info->eui64 = options.eui64;
  info->descriptor = descriptor->get();
  info->block_shift = static_cast<uint8_t>(std::countr_zero(bdev.block_size()));
  for (const auto& [id, other] : namespaces_) {
    if (other->info->uuid == info->uuid || other->info->nguid == info->nguid)
      return Result::Error(EEXIST);
  }
  ns->descriptor = std::move(*descriptor);
  ns->info = std::move(info);
  return Result(std::move(ns));
}

void Namespaces::Add(const NamespaceOptions& options,
                     std::function<void(base::ErrnoOr<uint32_t>)> done) {
  auto made = Make(options);
  if (!made.ok()) return done(base::ErrnoOr<uint32_t>::Error(made.error()));
  std::shared_ptr<const NamespaceInfo> info = (*made)->info;
  namespaces_[info->nsid] = std::move(*made);
  // Hosts are told when every reactor has it, so that none finds it missing.
  auto added = Countdown(tables_.size(), [this, info, done = std::move(done)] {
    on_change_(info->nsid);
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
  removing_[serial] = std::move(at->second);
  namespaces_.erase(at);
  auto removed = Countdown(tables_.size(), [this, serial, done = std::move(done)] {
    Closed(serial);
    done();
  });
  for (auto& [reactor, table] : tables_) {
    reactor->Post([this, table = table, nsid, removed] {
      table->Remove(nsid, [this, removed] { registry_.control().Post(removed); });
    });
  }
  on_change_(nsid);
  return 0;
}

void Namespaces::Closed(uint32_t serial) {
  removing_.erase(serial);
  if (!removing_.empty()) return;
  for (auto& done : std::exchange(when_all_removed_, {})) done();
}

void Namespaces::RemoveAll(std::function<void()> done) {
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

}  // namespace sma::target::nvmf
