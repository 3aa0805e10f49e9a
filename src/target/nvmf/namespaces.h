#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/errno_or.h"
#include "target/bdev/registry.h"
#include "target/nvmf/namespace_table.h"
#include "target/nvmf/options.h"
#include "target/nvmf/retired_nsids.h"

namespace sma::target::nvmf {

/// What a namespace is made with; nsid 0: the lowest free one; nil and zero ids: taken from the
/// bdev.
struct NamespaceOptions {
  std::string bdev_name;  // or its UUID
  uint32_t nsid = 0;
  base::Uuid uuid{};
  base::Uuid nguid{};
  std::array<uint8_t, 8> eui64{};
};

/// The namespaces of one subsystem: the control reactor's list, and a table of them in each reactor
/// that has queue pairs of the subsystem. The control reactor only.
class Namespaces {
 public:
  /// Callbacks for the subsystem.
  struct Events {
    /// A namespace has been added or has changed its size.
    std::function<void(uint32_t nsid)> on_change;
    /// A namespace is being removed. A copy of `untold` is kept for each controller until it has
    /// been told.
    std::function<void(uint32_t nsid, const RetiredNsids::Untold& untold)> on_remove;
    RetiredNsids::CatchUp catch_up;
  };

  Namespaces(bdev::Registry& registry, const SubsystemOptions& options, Events events);
  /// None may be left.
  ~Namespaces();

  /// Opens and claims the bdev. ENODEV: no such bdev; EPERM: it is another's; EEXIST: the NSID or
  /// an id is taken, or I/O of the last namespace with this NSID is outstanding; EINVAL: the NSID
  /// is out of range, or the block size has no name in NVMe; ENOSPC: no NSID is free; ECANCELED:
  /// the subsystem is being deleted. `done` runs when all reactors have it; it gets the NSID. While
  /// hosts may still take the NSID for another namespace this waits: see RetiredNsids. The same
  /// namespace (by its ids and block size) gets its NSID back at once.
  void Add(const NamespaceOptions& options, std::function<void(base::ErrnoOr<uint32_t>)> done);

  /// ENODEV: there is none. `done` runs when no command uses it any more and the bdev is closed.
  int Remove(uint32_t nsid, std::function<void()> done);
  void RemoveAll(std::function<void()> done);

  /// The table of `reactor`, made when there is none; its entries are on their way to that reactor
  /// then.
  std::shared_ptr<NamespaceTable> TableFor(Reactor& reactor);

  /// In ascending order of NSID.
  std::vector<std::shared_ptr<const NamespaceInfo>> List() const;

 private:
  class Namespace;

  using OnAdded = std::function<void(base::ErrnoOr<uint32_t>)>;
  struct Waiting {
    NamespaceOptions options;
    OnAdded done;
  };

  bool IsTaken(uint32_t nsid) const;
  bool MayBecome(uint32_t nsid, const NamespaceInfo& info) const;
  base::ErrnoOr<uint32_t> ChooseNsid(uint32_t wanted, const NamespaceInfo& info) const;
  base::ErrnoOr<std::unique_ptr<Namespace>> Make(const NamespaceOptions& options);
  void Announce(std::shared_ptr<const NamespaceInfo> info, OnAdded done);
  void AddWaiting();
  void Closed(uint32_t serial);

  bdev::Registry& registry_;
  const std::string claimant_;
  const uint32_t max_namespaces_;
  const Events events_;
  RetiredNsids retired_;
  std::vector<Waiting> waiting_;  // for an NSID that is retired
  std::map<uint32_t, std::unique_ptr<Namespace>> namespaces_;
  std::map<uint32_t, std::unique_ptr<Namespace>> removing_;  // by serial number
  std::vector<std::function<void()>> when_all_removed_;
  uint32_t last_serial_ = 0;
  std::map<Reactor*, std::shared_ptr<NamespaceTable>> tables_;
};

}  // namespace sma::target::nvmf
