// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "base/uuid.h"

namespace sma::storage_target::bdev {
class Descriptor;
}

namespace sma::storage_target::nvmf {

/// Constant parameters of a subsystem, shared with its controllers in all reactors.
struct SubsystemOptions {
  std::string nqn;
  bool discovery = false;       // derived from the NQN
  bool allow_any_host = false;  // initial value
  std::string serial_number = "00000000000000000000";
  std::string model_number = "SMA bdev Controller";
  uint32_t max_namespaces = 32;  // also the largest NSID
  uint16_t min_cntlid = 1;
  uint16_t max_cntlid = 0xffef;
  /// How long a new association of a host waits for the I/O of an earlier association that has
  /// ended, before the new one is refused.
  uint32_t reconnect_timeout_ms = 10000;
  /// How long a write waits for the I/O of a connection of its host that has ended, before the
  /// write ends with a path error. Shorter than the I/O timeouts of hosts (sma-target 10 s, Linux
  /// 30 s), so that they do not end the connection.
  uint32_t held_write_timeout_ms = 5000;
  /// How long a host may take to query the removal of a namespace whose NSID is wanted for another
  /// namespace, before the host is disconnected.
  uint32_t retired_nsid_timeout_ms = 30000;
  uint32_t dsm_range_size_limit = 2097152;  // DMRSL, blocks
  uint8_t write_zeroes_limit = 12;          // WZSL: log2 in units of 4 KiB pages
};

/// Limits that a transport sets for its controllers.
struct TransportLimits {
  uint32_t max_queue_depth = 128;        // entries of an I/O queue
  uint32_t max_admin_queue_depth = 128;  // entries of the admin queue
  uint32_t max_io_queue_pairs = 127;     // per controller
  uint32_t in_capsule_data_size = 4096;  // bytes
  uint32_t max_io_size = 131072;  // bytes of data per command; a power of two, at least 4 KiB
  uint32_t keep_alive_granularity_ms = 10000;
  uint32_t min_keep_alive_ms = 10000;
  /// Queues and data are in the host's memory, as with PCI Express; otherwise they are sent in
  /// messages.
  bool memory_based = false;
};

/// An active namespace. Constant; shared by the reactors.
struct NamespaceInfo {
  uint32_t nsid = 0;
  base::Uuid uuid;
  base::Uuid nguid;                        // nil: none
  std::array<uint8_t, 8> eui64{};          // all zero: none
  bdev::Descriptor* descriptor = nullptr;  // open until every reactor has released the namespace
  uint8_t block_shift = 9;                 // log2 of the block size in bytes
  bool read_only = false;
};

}  // namespace sma::storage_target::nvmf
