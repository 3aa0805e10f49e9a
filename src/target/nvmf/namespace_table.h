#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "target/bdev/channel.h"
#include "target/nvmf/options.h"

namespace sma::target::nvmf {

/// A namespace in one reactor: its bdev channel and the commands that use it. The reactor's thread
/// only.
class NamespaceEntry {
 public:
  NamespaceEntry(std::shared_ptr<const NamespaceInfo> info, uint64_t serial)
      : info_(std::move(info)), serial_(serial) {}

  const NamespaceInfo& info() const { return *info_; }
  bdev::Channel& channel() { return *channel_; }
  /// Different from those of all other entries that its table has had, and never 0.
  uint64_t serial() const { return serial_; }

  /// A command keeps the entry and its channel between Hold and Release.
  void Hold() { ++holders_; }
  void Release() {
    if (--holders_ == 0 && on_unused_)
      on_unused_();  // posts: the channel may be calling us just now
  }

 private:
  friend class NamespaceTable;
  std::shared_ptr<const NamespaceInfo> info_;
  const uint64_t serial_;
  std::unique_ptr<bdev::Channel> channel_;
  uint32_t holders_ = 0;
  std::function<void()> on_unused_;  // set when it is being removed
};

/// The namespaces of one subsystem as one reactor uses them: all its queue pairs in that reactor
/// share it. Made and destroyed anywhere, used in the reactor's thread only.
class NamespaceTable {
 public:
  explicit NamespaceTable(Reactor& reactor) : reactor_(reactor) {}
  /// No entry may be left.
  ~NamespaceTable();

  Reactor& reactor() const { return reactor_; }

  /// Opens the channel; the NSID must be free.
  void Add(std::shared_ptr<const NamespaceInfo> info);

  /// New commands no longer find it; `done` runs in this reactor when the last command that uses it
  /// has ended and the channel is closed.
  void Remove(uint32_t nsid, std::function<void()> done);

  /// nullptr: no such namespace.
  NamespaceEntry* Find(uint32_t nsid) const {
    return nsid - 1 < entries_.size() ? entries_[nsid - 1].get() : nullptr;
  }

  /// Calls `visit` for each namespace whose NSID is greater than `after`, in ascending order, as
  /// long as it returns true.
  void VisitFrom(uint32_t after, const std::function<bool(NamespaceEntry&)>& visit) const;

 private:
  void Close(NamespaceEntry* entry);

  Reactor& reactor_;
  uint64_t last_serial_ = 0;
  std::vector<std::unique_ptr<NamespaceEntry>> entries_;  // by NSID - 1; null where there is none
  std::vector<std::unique_ptr<NamespaceEntry>> removing_;
};

}  // namespace sma::target::nvmf
