#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace sma::target::bdev_nvme {

/// What to do while a remote side is away. In seconds, as SPDK's JSON-RPC has them.
struct ReconnectOptions {
  /// Given up, and the bdevs removed, after that long; -1: never; 0: no attempt to reconnect.
  int32_t ctrlr_loss_timeout_sec = -1;
  /// The longest pause between two attempts; 0 only where the former is 0.
  uint32_t reconnect_delay_sec = 2;
  /// I/O waits so long before it fails; 0: as long as there is hope.
  uint32_t fast_io_fail_timeout_sec = 0;

  /// Whether the three agree with each other, as SPDK demands.
  bool IsSound() const;
  friend bool operator==(const ReconnectOptions&, const ReconnectOptions&) = default;
};

/// How a second path to the same subsystem is used: not at all, when the first fails, at the same
/// time.
enum class Multipath : uint8_t { kDisable, kFailover, kMultipath };

/// Which path takes an I/O while more than one is there: always the first, or each in turn.
enum class MultipathPolicy : uint8_t { kActivePassive, kActiveActive };

/// bdev_nvme_set_options.
struct ModuleOptions {
  /// What an I/O that takes longer than `timeout_us` does to the connection: nothing, or end it.
  enum class TimeoutAction : uint8_t { kNone, kReset };
  // So that an I/O whose connection leads nowhere ends, or takes another path, before a host loses
  // patience, which takes 30 seconds with Linux.
  TimeoutAction action_on_timeout = TimeoutAction::kReset;
  uint64_t timeout_us = 10'000'000;  // of an I/O; 0: none
  uint64_t timeout_admin_us = 0;     // of an admin command; 0: 30 s
  /// A connection is lost when sent data are not acknowledged for 2 to the power of this
  /// milliseconds (TCP_USER_TIMEOUT); 0: 8 s. 31 at most.
  uint8_t transport_ack_timeout = 0;
  uint64_t tcp_connect_timeout_ms = 0;  // until a queue is connected; 0: 10 s
  uint32_t keep_alive_timeout_ms = 10000;
  uint32_t io_queue_requests =
      512;                       // commands at once in one queue, as far as the controller allows
  int32_t bdev_retry_count = 3;  // of an I/O that failed at a working path; -1: without end
  ReconnectOptions reconnect;
  MultipathPolicy policy = MultipathPolicy::kActivePassive;

  uint32_t ack_timeout_ms() const {
    return transport_ack_timeout == 0 ? 8000 : uint32_t{1} << transport_ack_timeout;
  }
};

/// Pauses between attempts to reconnect: the first comes at once, the next after a moment, then
/// twice as long each time up to a limit. Each is shortened by a random part, so that many hosts,
/// or controllers, do not come back at the same instant.
class BackOff {
 public:
  explicit BackOff(std::chrono::milliseconds longest) : longest_(longest) {}

  std::chrono::milliseconds Next();
  /// The connection held for `up_ns`. One that is lost again and again is not run after: only after
  /// a good one the next attempt comes at once.
  void ConnectionLost(uint64_t up_ns);
  void Reset() { next_ = std::chrono::milliseconds(0); }

 private:
  const std::chrono::milliseconds longest_;
  std::chrono::milliseconds next_{0};
};

}  // namespace sma::target::bdev_nvme
