// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "storage_target/bdev/channel.h"
#include "storage_target/nvmf/options.h"

namespace sma::storage_target::nvmf {

/// A namespace in one reactor: its bdev channel and the commands that use it. Used only on the
/// reactor's thread.
class NamespaceEntry {
 public:
  NamespaceEntry(std::shared_ptr<const NamespaceInfo> info, uint64_t serial)
      : info_(std::move(info)), serial_(serial) {}

  const NamespaceInfo& info() const { return *info_; }
  bdev::Channel& channel() { return *channel_; }
  /// Returns a number that is unique among all entries that the table has ever had, and never 0.
  uint64_t serial() const { return serial_; }

  /// Returns true while the removal of the namespace waits for the commands that use it.
  bool is_being_removed() const { return on_unused_ != nullptr; }

  /// Between Hold and Release a command keeps the entry and its channel alive.
  void Hold() { ++holders_; }
  void Release() {
    if (--holders_ == 0 && on_unused_)
      on_unused_();  // posts a task, because the channel may be the caller
  }

 private:
  friend class NamespaceTable;
  std::shared_ptr<const NamespaceInfo> info_;
  const uint64_t serial_;
  std::unique_ptr<bdev::Channel> channel_;
  uint32_t holders_ = 0;
  std::function<void()> on_unused_;  // set when the entry is being removed
};

/// The namespaces of one subsystem in one reactor, shared by all its queue pairs on that reactor.
/// May be created and destroyed on any thread; used only on the reactor's thread.
class NamespaceTable {
 public:
  explicit NamespaceTable(Reactor& reactor) : reactor_(reactor) {}
  /// All entries must have been removed.
  ~NamespaceTable();

  Reactor& reactor() const { return reactor_; }

  /// Adds a namespace and opens its channel; the NSID must be free.
  void Add(std::shared_ptr<const NamespaceInfo> info);

  /// Removes a namespace: new commands no longer find it. Calls `done` on this reactor when the
  /// last command that uses it has ended and the channel is closed.
  void Remove(uint32_t nsid, std::function<void()> done);

  /// Returns true while the removal of a namespace waits for commands.
  bool is_removing() const { return !removing_.empty(); }

  /// Returns nullptr if there is no such namespace.
  NamespaceEntry* Find(uint32_t nsid) const {
    return nsid - 1 < entries_.size() ? entries_[nsid - 1].get() : nullptr;
  }

  /// Calls `visit` for each namespace with an NSID greater than `after`, in ascending order, until
  /// `visit` returns false.
  void VisitFrom(uint32_t after, const std::function<bool(NamespaceEntry&)>& visit) const;

 private:
  void Close(NamespaceEntry* entry);

  Reactor& reactor_;
  uint64_t last_serial_ = 0;
  std::vector<std::unique_ptr<NamespaceEntry>> entries_;  // by NSID - 1; null for an inactive NSID
  std::vector<std::unique_ptr<NamespaceEntry>> removing_;
};

}  // namespace sma::storage_target::nvmf
