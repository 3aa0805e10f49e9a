#pragma once

#include <atomic>
#include <cstddef>
#include <thread>

namespace sma::target::bdev_modules {

/// Has the kernel give the pages of some memory in a thread of low priority, so that the first
/// access to each does not stall an I/O reactor. Stops by itself when less than a quarter of the
/// memory that this process may use (of the machine, or of its control group) would be left: what
/// is not populated then is given as it is accessed. Nothing before Linux 5.14.
class BackgroundPopulate {
 public:
  /// The memory, anonymous and writable, outlives this.
  BackgroundPopulate(std::byte* memory, size_t size_bytes);
  /// Stops within some milliseconds.
  ~BackgroundPopulate();
  BackgroundPopulate(const BackgroundPopulate&) = delete;
  BackgroundPopulate& operator=(const BackgroundPopulate&) = delete;

 private:
  void Run(std::byte* memory, size_t size_bytes) const;

  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace sma::target::bdev_modules
