// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <atomic>
#include <cstddef>
#include <thread>

namespace sma::storage_target::bdev_malloc {

/// Allocates the pages of a memory area in a thread of its own, which pauses most of the time, so
/// that the first access to a page does not stall an I/O reactor. Stops when less than a quarter of
/// the memory available to this process (of the system, or of its control group) would remain; the
/// remaining pages are allocated when they are accessed. Does nothing before Linux 5.14.
class BackgroundPopulate {
 public:
  /// `memory` must be anonymous, writable memory that outlives this object.
  BackgroundPopulate(std::byte* memory, size_t size_bytes);
  /// Stops the thread. Blocks for a few milliseconds at most.
  ~BackgroundPopulate();
  BackgroundPopulate(const BackgroundPopulate&) = delete;
  BackgroundPopulate& operator=(const BackgroundPopulate&) = delete;

 private:
  void Run(std::byte* memory, size_t size_bytes) const;

  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace sma::storage_target::bdev_malloc
