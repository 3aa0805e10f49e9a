#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>

#include "target/nvmf/options.h"

namespace sma::target {
class Reactor;
}

namespace sma::target::nvmf {

/// NSIDs of removed namespaces that hosts may still take for those. An NSID is free again when
/// every controller that was connected at the removal has been told of it (it has read the Changed
/// Namespace List or a list of active namespaces without it) or is gone, and the commands that
/// hosts had sent by then have been started. A host that never asks is waited for only so long. The
/// control reactor only.
class RetiredNsids {
 public:
  /// Kept, in any thread, for each controller that has not been told.
  using Untold = std::shared_ptr<void>;
  /// Starts all commands that hosts have sent so far; `done` runs in the control reactor.
  using CatchUp = std::function<void(std::function<void()> done)>;

  /// `timeout`: how long to wait for hosts; `on_free` runs when an NSID has become free.
  RetiredNsids(Reactor& control, std::chrono::milliseconds timeout, CatchUp catch_up,
               std::function<void()> on_free);
  ~RetiredNsids();
  RetiredNsids(const RetiredNsids&) = delete;
  RetiredNsids& operator=(const RetiredNsids&) = delete;

  /// The namespace has been removed. Its NSID is retired at least until the last copy of the result
  /// is gone.
  Untold Retire(const NamespaceInfo& info);
  /// The namespace that had this NSID (without its descriptor); null if the NSID is not retired.
  const NamespaceInfo* Find(uint32_t nsid) const;

 private:
  struct Retired {
    NamespaceInfo info;
    uint64_t serial = 0;
    uint64_t timer = 0;
  };

  void OnTold(uint32_t nsid, uint64_t serial);
  void Free(uint32_t nsid, uint64_t serial);
  /// Null if that is no longer what this NSID is retired for.
  Retired* Find(uint32_t nsid, uint64_t serial);

  Reactor& control_;
  const std::chrono::milliseconds timeout_;
  const CatchUp catch_up_;
  const std::function<void()> on_free_;
  std::map<uint32_t, Retired> retired_;
  uint64_t last_serial_ = 0;
  // Tells what is on its way here, in the control reactor, whether this still exists.
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace sma::target::nvmf
