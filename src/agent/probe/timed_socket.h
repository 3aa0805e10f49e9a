// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <sys/types.h>

#include <string>

#include "base/context.h"
#include "base/unique_fd.h"

namespace sma::probe {

/// A TCP connection whose operations end at a deadline. Not thread-safe.
class TimedSocket {
 public:
  /// Connects to a numeric address; check valid(). Blocks at most until `deadline`.
  TimedSocket(const std::string& ip, const std::string& port, base::TimePoint deadline);

  bool valid() const { return fd_.valid(); }
  int fd() const { return fd_.get(); }

  /// Returns false if the connection ended, or the deadline passed, before all bytes were
  /// transferred.
  bool Send(const void* data, size_t size);
  bool Receive(void* data, size_t size);

  /// Waits for `events` of poll(2). Returns those that occurred; 0 if the deadline passed.
  short Wait(short events) const;

 private:
  // Calls `transfer` until `size` bytes are transferred, and waits for `event` when it would block.
  template <typename Byte>
  bool Transfer(Byte* next, size_t size, short event,
                ssize_t (*transfer)(int fd, Byte* next, size_t size));

  base::UniqueFd fd_;
  const base::TimePoint deadline_;
};

}  // namespace sma::probe
