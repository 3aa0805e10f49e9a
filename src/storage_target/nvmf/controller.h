// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/uuid.h"
#include "storage_target/nvme/property.h"
#include "storage_target/nvme/status.h"
#include "storage_target/nvmf/async_events.h"
#include "storage_target/nvmf/completion_sink.h"
#include "storage_target/nvmf/features.h"
#include "storage_target/nvmf/options.h"

namespace sma::storage_target {
class Reactor;
}

namespace sma::storage_target::nvmf {

class ControlPlane;
struct DiscoveryLog;

/// A controller: the shared state of one association between a host and a subsystem. Created on the
/// control reactor; owned by the reactor of its admin queue pair, which must call all methods
/// unless noted otherwise. Kept alive by its queue pairs and by the subsystem.
class Controller : public std::enable_shared_from_this<Controller> {
 public:
  struct Identity {
    uint16_t id = 0;  // CNTLID
    std::string host_nqn;
    base::Uuid host_id;
  };

  /// The connections of a host to a subsystem, shared by the controllers of its associations.
  struct HostConnections {
    /// Number of connections and associations that have ended but are not yet removed, so that
    /// their I/O may be outstanding. Increased in any thread, decreased in the control reactor.
    std::atomic<uint32_t> ended{0};
  };

  Controller(ControlPlane& control_plane, std::shared_ptr<const SubsystemOptions> subsystem,
             Identity identity, const TransportLimits& limits, uint32_t keep_alive_ms,
             std::shared_ptr<HostConnections> host_connections);

  // Returns the subsystem's parameters, which are constant. May be called from any thread.
  const SubsystemOptions& subsystem() const { return *subsystem_; }
  uint16_t id() const { return identity_.id; }
  const std::string& host_nqn() const { return identity_.host_nqn; }
  const base::Uuid& host_id() const { return identity_.host_id; }
  const TransportLimits& limits() const { return limits_; }
  bool is_discovery() const { return subsystem_->discovery; }

  // May be called from any thread.
  // Returns true if the controller is enabled and not shut down: I/O queues may be connected.
  bool ready() const { return ready_.load(std::memory_order_acquire); }
  /// Returns the number of I/O queues granted to the host.
  uint32_t io_queue_limit() const { return io_queue_limit_.load(std::memory_order_acquire); }
  HostConnections& host_connections() const { return *host_connections_; }
  /// Returns true if I/O of a connection of this host that has ended may be outstanding, so that it
  /// might overwrite data of later writes.
  bool host_may_have_late_io() const {
    return host_connections_->ended.load(std::memory_order_relaxed) != 0;
  }
  /// Returns false if every write must be durable when it completes.
  bool write_cache_enabled() const { return write_cache_enabled_.load(std::memory_order_relaxed); }
  /// Records traffic on an I/O queue as a sign of life of the host (traffic based keep-alive, NVMe
  /// Base 2.0 §3.9).
  void NoteTraffic() {
    if (!traffic_.load(std::memory_order_relaxed)) traffic_.store(true, std::memory_order_relaxed);
  }
  /// Returns true if the association has ended at `now_ns`, a present time of CLOCK_MONOTONIC:
  /// because the admin queue pair has ended, or because the keep-alive time has passed, although
  /// the timer may not have run yet if its reactor or the process was stopped. Commands that arrive
  /// after that must not be executed, because the host may have continued elsewhere.
  bool IsExpired(uint64_t now_ns) const {
    return now_ns >= due_ns_.load(std::memory_order_relaxed) && IsOverdue(now_ns);
  }

  /// Must be called when the admin queue pair is connected in `reactor`. `sink` receives the
  /// completions of asynchronous events, `disconnect` ends the connection. Both are used until
  /// DetachAdmin.
  void AttachAdmin(Reactor& reactor, CompletionSink& sink, std::function<void()> disconnect);
  void DetachAdmin();

  /// Property Get and Property Set, for the given offset and size (4 or 8 bytes).
  nvme::Status ReadProperty(uint32_t offset, uint32_t size_bytes, uint64_t& value) const;
  nvme::Status WriteProperty(uint32_t offset, uint32_t size_bytes, uint64_t value);

  /// Records an admin command as a sign of life of the host.
  void NoteAdminCommand();

  AsyncEvents& async_events() { return async_events_; }
  /// Disconnects the host if it has not been notified of the removal of a namespace with this NSID.
  void DisconnectIfUnaware(uint32_t nsid);
  Features& features() { return features_; }
  void GrantIoQueues(uint32_t count) { io_queue_limit_.store(count, std::memory_order_release); }
  void EnableWriteCache(bool yes) { write_cache_enabled_.store(yes, std::memory_order_relaxed); }
  uint32_t keep_alive_ms() const { return keep_alive_ms_; }
  /// Sets the keep-alive timeout. Zero disables the timer; other values are rounded up to the
  /// granularity of the transport.
  void SetKeepAlive(uint32_t keep_alive_ms);

  /// The discovery log page that this host last read from offset 0, so that all parts it reads
  /// belong to the same page.
  std::shared_ptr<const DiscoveryLog> discovery_log;

 private:
  void WriteConfiguration(uint32_t cc);
  nvme::Status CheckConfiguration(uint32_t cc) const;
  void Enable();
  /// Disconnects the I/O queue pairs, then sets CSTS.
  void Quiesce(uint32_t csts_then);
  void Supervise();
  void StartTimer(uint64_t timeout_ns);
  bool IsOverdue(uint64_t now_ns) const;
  void StopSupervision();
  void OnTimer();
  void DisconnectHost();
  uint64_t TimeoutNs() const;

  ControlPlane& control_plane_;
  const std::shared_ptr<const SubsystemOptions> subsystem_;
  const Identity identity_;
  const TransportLimits limits_;
  const std::shared_ptr<HostConnections> host_connections_;

  std::atomic<bool> ready_{false};
  std::atomic<bool> traffic_{false};
  std::atomic<bool> write_cache_enabled_{true};
  std::atomic<uint32_t> io_queue_limit_;

  Reactor* reactor_ = nullptr;  // of the admin queue pair, while connected
  std::function<void()> disconnect_admin_;
  uint64_t cap_;
  uint32_t cc_ = 0;
  uint32_t csts_ = 0;
  uint32_t quiesce_generation_ = 0;
  uint32_t keep_alive_ms_ = 0;
  uint64_t timer_ = 0;  // Reactor::TimerId
  // Written by the reactor of the admin queue pair. `due_ns_` is written last.
  std::atomic<uint64_t> last_activity_ns_{0};
  std::atomic<uint64_t> timeout_ns_{0};
  std::atomic<uint64_t> due_ns_{UINT64_MAX};  // when the timer is due; UINT64_MAX: no timer
  AsyncEvents async_events_;
  Features features_;
};

}  // namespace sma::storage_target::nvmf
