// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/errno_or.h"
#include "storage_target/bdev/registry.h"
#include "storage_target/nvmf/namespace_table.h"
#include "storage_target/nvmf/options.h"
#include "storage_target/nvmf/retired_nsids.h"

namespace sma::storage_target::nvmf {

/// Parameters of a new namespace. With nsid 0, the lowest free NSID is used; nil and zero
/// identifiers are taken from the bdev.
struct NamespaceOptions {
  std::string bdev_name;  // or its UUID
  uint32_t nsid = 0;
  base::Uuid uuid{};
  base::Uuid nguid{};
  std::array<uint8_t, 8> eui64{};
};

/// The namespaces of one subsystem: the control reactor's list, and a NamespaceTable in each
/// reactor that has queue pairs of the subsystem. Used only on the control reactor.
class Namespaces {
 public:
  /// Callbacks for the subsystem.
  struct Events {
    /// Called when a namespace was added or has changed its size.
    std::function<void(uint32_t nsid)> on_change;
    /// Called when a namespace is being removed. A copy of `unnotified` is kept for each controller
    /// until its host has been notified.
    std::function<void(uint32_t nsid, const RetiredNsids::Unnotified& unnotified)> on_remove;
    RetiredNsids::ProcessReceived process_received;
    /// Called when controllers that still have `unnotified` of this NSID must be disconnected.
    std::function<void(uint32_t nsid)> disconnect_unnotified;
  };

  Namespaces(bdev::Registry& registry, const SubsystemOptions& options, Events events);
  /// All namespaces must have been removed.
  ~Namespaces();

  /// Opens and claims the bdev and adds a namespace. Errors: ENODEV if there is no such bdev; EPERM
  /// if it is claimed by another module; EEXIST if the NSID or an identifier is in use, or I/O of
  /// the previous namespace with this NSID is outstanding; EINVAL if the NSID is out of range or
  /// NVMe does not support the block size; ENOSPC if no NSID is free; ECANCELED if the subsystem is
  /// being deleted. Calls `done` with the NSID when all reactors have the namespace. Waits while
  /// hosts might mistake the NSID for a removed namespace: see RetiredNsids; the bdev is open and
  /// claimed during that time, and ENODEV is the result if it is removed. A namespace with the same
  /// identifiers and block size gets its former NSID back immediately.
  void Add(const NamespaceOptions& options, std::function<void(base::ErrnoOr<uint32_t>)> done);

  /// Removes a namespace. Returns ENODEV if there is none. Calls `done` when no command uses it and
  /// the bdev is closed.
  int Remove(uint32_t nsid, std::function<void()> done);
  void RemoveAll(std::function<void()> done);

  /// Returns the table of `reactor`. If there is none, creates it; its entries are then added
  /// asynchronously by that reactor.
  std::shared_ptr<NamespaceTable> TableFor(Reactor& reactor);

  /// Returns all namespaces, sorted by NSID.
  std::vector<std::shared_ptr<const NamespaceInfo>> List() const;

 private:
  class Namespace;

  using OnAdded = std::function<void(base::ErrnoOr<uint32_t>)>;
  struct Waiting {
    uint32_t nsid;  // the requested one; 0: any
    std::unique_ptr<Namespace> ns;
    OnAdded done;
  };

  bool IsTaken(uint32_t nsid) const;
  bool CanUseNsid(uint32_t nsid, const NamespaceInfo& info) const;
  base::ErrnoOr<uint32_t> ChooseNsid(uint32_t wanted, const NamespaceInfo& info) const;
  base::ErrnoOr<std::unique_ptr<Namespace>> Open(const NamespaceOptions& options);
  void AddOrWait(Waiting add);
  void FailWaiting(const std::function<bool(const Waiting&)>& which, int error);
  void UpdateWanted();
  void AddToTables(std::shared_ptr<const NamespaceInfo> info, OnAdded done);
  void AddWaiting();
  void OnClosed(uint32_t serial);

  bdev::Registry& registry_;
  const std::string claimant_;
  const uint32_t max_namespaces_;
  const Events events_;
  RetiredNsids retired_;
  std::list<Waiting> waiting_;  // for an NSID that is retired
  std::map<uint32_t, std::unique_ptr<Namespace>> namespaces_;
  std::map<uint32_t, std::unique_ptr<Namespace>> removing_;  // by serial number
  std::vector<std::function<void()>> when_all_removed_;
  uint32_t last_serial_ = 0;
  std::map<Reactor*, std::shared_ptr<NamespaceTable>> tables_;
};

}  // namespace sma::storage_target::nvmf
