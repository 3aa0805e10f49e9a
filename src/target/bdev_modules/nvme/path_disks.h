#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <vector>

#include "target/nvme/log_page.h"

namespace sma::target::bdev_nvme {

/// A disk of a remote subsystem, that is a namespace as long as it keeps its identity. An NSID may
/// stand for one disk today and for another tomorrow, or on another path.
struct DiskKey {
  uint32_t slot = 0;    // small, used again when the disk is gone
  uint32_t serial = 0;  // never used again; 0: none

  friend bool operator==(const DiskKey&, const DiskKey&) = default;
};

/// A disk as one path shows it.
struct PathDisk {
  uint32_t serial = 0;  // 0: the path does not show it
  nvme::AnaState state = nvme::AnaState::kOptimized;
  /// The controller has a write cache and the bdev was made without: writes go with FUA.
  bool force_fua = false;

  friend bool operator==(const PathDisk&, const PathDisk&) = default;
};
/// By DiskKey::slot; slots beyond the end are not shown.
using PathDisks = std::vector<PathDisk>;

/// A controller's retry delays, by nvme::RetryDelayIndex.
using RetryDelays = std::array<std::chrono::milliseconds, 4>;

}  // namespace sma::target::bdev_nvme
