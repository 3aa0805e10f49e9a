#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "base/uuid.h"

namespace sma::target::bdev {
class Descriptor;
}

namespace sma::target::nvmf {

/// What a subsystem is made with and keeps for life; shared with its controllers in all reactors.
struct SubsystemOptions {
  std::string nqn;
  bool discovery = false;       // follows from the NQN
  bool allow_any_host = false;  // at the start
  std::string serial_number = "00000000000000000000";
  std::string model_number = "SMA bdev Controller";
  uint32_t max_namespaces = 32;  // the largest NSID
  uint16_t min_cntlid = 1;
  uint16_t max_cntlid = 0xffef;
  /// How long a new association of a host waits for the I/O of an earlier one that has ended; then
  /// it is refused.
  uint32_t reconnect_timeout_ms = 10000;
  /// How long an NSID is kept from other namespaces for hosts that do not ask what has changed.
  uint32_t retired_nsid_timeout_ms = 30000;
  uint32_t dsm_range_size_limit = 2097152;  // DMRSL, blocks
  uint8_t write_zeroes_limit = 12;          // WZSL: pages of 4 KiB, as a power of two
};

/// What a transport lets its controllers do.
struct TransportLimits {
  uint32_t max_queue_depth = 128;        // entries of an I/O queue
  uint32_t max_admin_queue_depth = 128;  // entries of the admin queue
  uint32_t max_io_queue_pairs = 127;     // of one controller
  uint32_t in_capsule_data_size = 4096;  // bytes
  uint32_t max_io_size = 131072;  // bytes of one command's data; a power of two, 4 KiB or more
  uint32_t keep_alive_granularity_ms = 10000;
  uint32_t min_keep_alive_ms = 10000;
  /// Queues and data lie in the host's memory, as with PCI Express; else they travel in messages.
  bool memory_based = false;
};

/// A namespace while it exists: constant, shared by the reactors.
struct NamespaceInfo {
  uint32_t nsid = 0;
  base::Uuid uuid;
  base::Uuid nguid;                        // nil: none
  std::array<uint8_t, 8> eui64{};          // all zero: none
  bdev::Descriptor* descriptor = nullptr;  // open until every reactor has let the namespace go
  uint8_t block_shift = 9;                 // log2 of the block size in bytes
  bool read_only = false;
};

}  // namespace sma::target::nvmf
