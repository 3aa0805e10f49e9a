// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <vector>

#include "storage_target/nvme/log_page.h"

namespace sma::storage_target::bdev_nvme {

/// Identifies a disk of a remote subsystem. A disk is a namespace whose identity does not change.
/// An NSID may denote different disks at different times, or on different paths.
struct DiskKey {
  uint32_t slot = 0;    // small; reused when the disk is removed
  uint32_t serial = 0;  // never reused; 0: none

  friend bool operator==(const DiskKey&, const DiskKey&) = default;
};

/// A disk as reported by one path.
struct PathDisk {
  uint32_t serial = 0;  // 0: the path does not report it
  nvme::AnaState state = nvme::AnaState::kOptimized;
  /// True if the controller has a write cache although the bdev was created without one, so that
  /// writes must use FUA.
  bool force_fua = false;

  friend bool operator==(const PathDisk&, const PathDisk&) = default;
};
/// Indexed by DiskKey::slot; disks beyond the end are not reported.
using PathDisks = std::vector<PathDisk>;

/// A controller's retry delays, indexed by nvme::RetryDelayIndex.
using RetryDelays = std::array<std::chrono::milliseconds, 4>;

}  // namespace sma::storage_target::bdev_nvme
