#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/uuid.h"
#include "target/nvme/property.h"
#include "target/nvme/status.h"
#include "target/nvmf/async_events.h"
#include "target/nvmf/completion_sink.h"
#include "target/nvmf/features.h"
#include "target/nvmf/options.h"

namespace sma::target {
class Reactor;
}

namespace sma::target::nvmf {

class ControlPlane;
struct DiscoveryLog;

/// A controller: what one association of a host with a subsystem has in common. Made in the control
/// reactor; belongs to the reactor of its admin queue pair, and so do all members but those that
/// say otherwise. Kept by its queue pairs and by the subsystem.
class Controller : public std::enable_shared_from_this<Controller> {
 public:
  struct Identity {
    uint16_t id = 0;  // CNTLID
    std::string host_nqn;
    base::Uuid host_id;
  };

  Controller(ControlPlane& control_plane, std::shared_ptr<const SubsystemOptions> subsystem,
             Identity identity, const TransportLimits& limits, uint32_t keep_alive_ms);

  // From any thread: constant.
  const SubsystemOptions& subsystem() const { return *subsystem_; }
  uint16_t id() const { return identity_.id; }
  const std::string& host_nqn() const { return identity_.host_nqn; }
  const base::Uuid& host_id() const { return identity_.host_id; }
  const TransportLimits& limits() const { return limits_; }
  bool is_discovery() const { return subsystem_->discovery; }

  // From any thread.
  /// Enabled and not shut down: I/O queues may be connected.
  bool ready() const { return ready_.load(std::memory_order_acquire); }
  /// How many I/O queues the host was granted.
  uint32_t io_queue_limit() const { return io_queue_limit_.load(std::memory_order_acquire); }
  /// False: every write is to be durable when it completes.
  bool write_cache_enabled() const { return write_cache_enabled_.load(std::memory_order_relaxed); }
  /// A command came on an I/O queue: the host lives (traffic based keep-alive, NVMe Base 2.0 §3.9).
  void NoteTraffic() {
    if (!traffic_.load(std::memory_order_relaxed)) traffic_.store(true, std::memory_order_relaxed);
  }

  /// The admin queue pair is connected, in `reactor`: `sink` takes the completions of asynchronous
  /// events, `disconnect` ends its connection. Both are used until DetachAdmin.
  void AttachAdmin(Reactor& reactor, CompletionSink& sink, std::function<void()> disconnect);
  void DetachAdmin();

  /// Property Get and Set, by offset and size (4 or 8 bytes).
  nvme::Status ReadProperty(uint32_t offset, uint32_t size_bytes, uint64_t& value) const;
  nvme::Status WriteProperty(uint32_t offset, uint32_t size_bytes, uint64_t value);

  /// An admin command came.
  void NoteAdminCommand();

  AsyncEvents& async_events() { return async_events_; }
  Features& features() { return features_; }
  void GrantIoQueues(uint32_t count) { io_queue_limit_.store(count, std::memory_order_release); }
  void EnableWriteCache(bool yes) { write_cache_enabled_.store(yes, std::memory_order_relaxed); }
  uint32_t keep_alive_ms() const { return keep_alive_ms_; }
  /// Zero ends the supervision; other values are rounded up to what the transport supports.
  void SetKeepAlive(uint32_t keep_alive_ms);

  /// The discovery log page as this host last read it from its start, so that it gets pieces of one
  /// and the same page.
  std::shared_ptr<const DiscoveryLog> discovery_log;

 private:
  void WriteConfiguration(uint32_t cc);
  nvme::Status CheckConfiguration(uint32_t cc) const;
  void Enable();
  /// Ends the I/O queue pairs, then sets CSTS.
  void Quiesce(uint32_t csts_then);
  void Supervise();
  void StopSupervision();
  void OnTimer();
  uint64_t TimeoutNs() const;

  ControlPlane& control_plane_;
  const std::shared_ptr<const SubsystemOptions> subsystem_;
  const Identity identity_;
  const TransportLimits limits_;

  std::atomic<bool> ready_{false};
  std::atomic<bool> traffic_{false};
  std::atomic<bool> write_cache_enabled_{true};
  std::atomic<uint32_t> io_queue_limit_;

  Reactor* reactor_ = nullptr;  // of the admin queue pair while that is connected
  std::function<void()> disconnect_admin_;
  uint64_t cap_;
  uint32_t cc_ = 0;
  uint32_t csts_ = 0;
  uint32_t quiesce_generation_ = 0;
  uint32_t keep_alive_ms_ = 0;
  uint64_t timer_ = 0;  // Reactor::TimerId
  uint64_t last_activity_ns_ = 0;
  AsyncEvents async_events_;
  Features features_;
};

}  // namespace sma::target::nvmf
