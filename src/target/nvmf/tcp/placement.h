#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace sma::target::nvmf::tcp {

/// Chooses the reactor of each new connection: the one with the least load. Owned by the control
/// reactor's thread.
class Placement {
 public:
  /// What one reactor serves now.
  struct Load {
    uint64_t io_queue_pairs = 0;
    uint64_t admin_queue_pairs = 0;
    uint64_t pending_connections = 0;  // which may become either
    uint64_t completed_commands = 0;   // of I/O queues, since the start
  };

  /// The index of a reactor. `loads`: of all reactors, at least one, the same ones in the same
  /// order each time. `now_ns`: monotonic.
  size_t Choose(std::span<const Load> loads, uint64_t now_ns);

 private:
  void MeasureRates(std::span<const Load> loads, uint64_t now_ns);

  std::vector<uint64_t> sampled_commands_;
  std::vector<double> rates_;  // commands a second between the last two samples
  uint64_t sampled_ns_ = 0;
  size_t next_ = 0;  // where equals are looked at first
};

}  // namespace sma::target::nvmf::tcp
