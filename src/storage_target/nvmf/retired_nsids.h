// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>

#include "storage_target/nvmf/options.h"

namespace sma::storage_target {
class Reactor;
}

namespace sma::storage_target::nvmf {

/// NSIDs of namespaces whose removal hosts may not have noticed yet. An NSID can be reused when
/// every controller that was connected at the removal has been notified (its host has read the
/// Changed Namespace List or a list of active namespaces without the NSID) or no longer exists, and
/// all commands that hosts had sent by then have been started. If an NSID is wanted for another
/// namespace and a host has not queried the changes when a timeout expires, the host must be
/// disconnected. Used only on the control reactor.
class RetiredNsids {
 public:
  /// A token that is kept for each controller that has not been notified. May be destroyed on any
  /// thread.
  using Unnotified = std::shared_ptr<void>;
  /// Starts all commands that hosts have sent so far; calls `done` on the control reactor.
  using ProcessReceived = std::function<void(std::function<void()> done)>;

  struct Callbacks {
    ProcessReceived process_received;
    /// Called when an NSID has become free.
    std::function<void()> on_free;
    /// Must disconnect the controllers that have an Unnotified of this NSID, which becomes free
    /// when they no longer exist.
    std::function<void(uint32_t nsid)> disconnect_unnotified;
  };

  /// `timeout` is how long to wait for hosts.
  RetiredNsids(Reactor& control, std::chrono::milliseconds timeout, Callbacks callbacks);
  ~RetiredNsids();
  RetiredNsids(const RetiredNsids&) = delete;
  RetiredNsids& operator=(const RetiredNsids&) = delete;

  /// Retires the NSID of a removed namespace at least until the last copy of the result is
  /// destroyed.
  Unnotified Retire(const NamespaceInfo& info);
  /// Returns the namespace that had this NSID (without its descriptor), or null if the NSID is not
  /// retired.
  const NamespaceInfo* Find(uint32_t nsid) const;
  /// Must be called with the NSIDs for which namespaces wait when that has changed. `others` is the
  /// number of namespaces that can use any NSID for which `is_usable` returns true: as many of
  /// these are wanted too, first those whose hosts have been notified, then those that were retired
  /// first. Hosts that have not noticed the removal of a namespace whose NSID is wanted when the
  /// timeout expires are disconnected.
  void SetWanted(const std::set<uint32_t>& nsids, size_t others,
                 const std::function<bool(uint32_t)>& is_usable);

 private:
  struct Retired {
    NamespaceInfo info;
    uint64_t serial = 0;
    uint64_t timer = 0;  // 0: the timeout has expired, or all hosts have been notified
    bool wanted = false;
    bool notified = false;
    bool disconnected = false;  // the hosts that were not notified in time
  };

  std::set<uint32_t> Choose(const std::set<uint32_t>& nsids, size_t others,
                            const std::function<bool(uint32_t)>& is_usable) const;
  void DisconnectIfDue(uint32_t nsid, Retired& retired);
  void OnTimeout(uint32_t nsid, uint64_t serial);
  void OnNotified(uint32_t nsid, uint64_t serial);
  void Free(uint32_t nsid, uint64_t serial);
  /// Returns null if the NSID is no longer retired for that namespace.
  Retired* Find(uint32_t nsid, uint64_t serial);

  Reactor& control_;
  const std::chrono::milliseconds timeout_;
  const Callbacks callbacks_;
  std::map<uint32_t, Retired> retired_;
  uint64_t last_serial_ = 0;
  // Allows tasks that were posted to the control reactor to check that this object still exists.
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace sma::storage_target::nvmf
