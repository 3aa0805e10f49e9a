// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace sma::storage_target::nvmf::tcp {

/// Selects the reactor of each new connection: the one with the least load. Owned by the control
/// reactor.
class Placement {
 public:
  /// The present load of one reactor.
  struct Load {
    uint64_t io_queue_pairs = 0;
    uint64_t admin_queue_pairs = 0;
    uint64_t pending_connections = 0;  // may become either
    uint64_t completed_commands = 0;   // of I/O queues, since the start
  };

  /// Returns the index of a reactor. `loads` has an element for each reactor (at least one), in the
  /// same order in each call. `now_ns` is a monotonic time.
  size_t Choose(std::span<const Load> loads, uint64_t now_ns);

 private:
  void MeasureRates(std::span<const Load> loads, uint64_t now_ns);

  std::vector<uint64_t> sampled_commands_;
  std::vector<double> rates_;  // commands per second between the last two samples
  uint64_t sampled_ns_ = 0;
  size_t next_ = 0;  // first candidate among reactors of equal load
};

}  // namespace sma::storage_target::nvmf::tcp
