// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>

namespace sma::storage_target {

/// Prevents the execution of requests that a peer sent long before it closed its socket: it has
/// given them up, and may have continued elsewhere. This matters if this thread or the process was
/// delayed or stopped. Requests that are found shortly after the last check are executed without a
/// system call. Owned by a reactor's thread.
class PeerWatch {
 public:
  /// `socket` must stay open while this object is used; -1: the peer never leaves.
  explicit PeerWatch(int socket) : socket_(socket) {}

  /// Returns the present time, in nanoseconds, of the clock whose value at the start of this round
  /// of the loop is Reactor::now_ns.
  static uint64_t ClockNs();

  /// Must be called when requests have been found, before they are executed, with the reactor's
  /// time (Reactor::now_ns) and the present time. Returns false if they must not be executed,
  /// because the peer has closed or reset the connection.
  bool MayExecute(uint64_t now_ns, uint64_t clock_ns = ClockNs());
  /// Must be called with the reactor's time when no requests have been found.
  void SawNothing(uint64_t now_ns) { checked_ns_ = now_ns; }
  /// Returns true if the peer has closed or reset the connection, or at least its sending side.
  bool IsClosed() const;

 private:
  const int socket_;
  uint64_t checked_ns_ = 0;
};

}  // namespace sma::storage_target
