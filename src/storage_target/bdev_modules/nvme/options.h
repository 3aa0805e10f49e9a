// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace sma::storage_target::bdev_nvme {

/// How connections are re-established. Times are in seconds, as in SPDK's JSON-RPC.
struct ReconnectOptions {
  /// Time after a connection loss after which the path and its bdevs are removed. If -1, they are
  /// never removed; if 0, they are removed immediately, without an attempt to reconnect.
  int32_t ctrlr_loss_timeout_sec = -1;
  /// Maximum pause between two attempts; 0 only if ctrlr_loss_timeout_sec is 0.
  uint32_t reconnect_delay_sec = 2;
  /// How long I/O waits before it fails; if 0, it waits as long as attempts to reconnect are made.
  uint32_t fast_io_fail_timeout_sec = 0;

  /// Returns true if the three values are consistent, by SPDK's rules.
  bool IsValid() const;
  friend bool operator==(const ReconnectOptions&, const ReconnectOptions&) = default;
};

/// How a second path to the same subsystem is used: not at all, after a failure of the first path,
/// or concurrently.
enum class Multipath : uint8_t { kDisable, kFailover, kMultipath };

/// How a path is selected while several paths are usable: always the first one, or round robin.
enum class MultipathPolicy : uint8_t { kActivePassive, kActiveActive };

/// The options set by bdev_nvme_set_options.
struct ModuleOptions {
  /// The action when an I/O takes longer than `timeout_us`: none, or reset the connection.
  enum class TimeoutAction : uint8_t { kNone, kReset };
  // The default ends an I/O on a dead connection, or moves it to another path, before a host times
  // out (30 seconds on Linux).
  TimeoutAction action_on_timeout = TimeoutAction::kReset;
  uint64_t timeout_us = 10'000'000;  // of an I/O; 0: none
  uint64_t timeout_admin_us = 0;     // of an admin command; 0: 30 s
  /// A connection is lost if sent data are not acknowledged for 2 to the power of this value
  /// milliseconds (TCP_USER_TIMEOUT), or for 8 s if it is 0. At most 31.
  uint8_t transport_ack_timeout = 0;
  uint64_t tcp_connect_timeout_ms = 0;  // until a queue is connected; 0: 10 s
  // Also determines how long a write that was sent on a lost path is held, see
  // initiator::Controller::quiesce_time.
  uint32_t keep_alive_timeout_ms = 5000;
  uint32_t io_queue_requests = 512;  // maximum of one queue, if the controller allows it
  int32_t bdev_retry_count = 3;  // retries of an I/O that failed on a working path; -1: unlimited
  ReconnectOptions reconnect;
  MultipathPolicy policy = MultipathPolicy::kActivePassive;

  uint32_t ack_timeout_ms() const {
    return transport_ack_timeout == 0 ? 8000 : uint32_t{1} << transport_ack_timeout;
  }
};

/// The pauses between attempts to reconnect: the first attempt is immediate, the next follows after
/// a short pause, which doubles each time up to a limit. Each pause is shortened by a random
/// amount, so that many hosts or controllers do not reconnect simultaneously.
class BackOff {
 public:
  explicit BackOff(std::chrono::milliseconds longest) : longest_(longest) {}

  std::chrono::milliseconds Next();
  /// Called when a connection has been lost after `up_ns`. The next attempt is immediate only if
  /// the connection was stable.
  void ConnectionLost(uint64_t up_ns);
  void Reset() { next_ = std::chrono::milliseconds(0); }

 private:
  const std::chrono::milliseconds longest_;
  std::chrono::milliseconds next_{0};
};

}  // namespace sma::storage_target::bdev_nvme
