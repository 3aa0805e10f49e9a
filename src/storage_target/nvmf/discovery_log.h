// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "storage_target/nvme/fabrics.h"
#include "storage_target/nvmf/transport_address.h"

namespace sma::storage_target::nvmf {

/// The discovery log page (NVMe Base 2.0 §5.16.1.23) for one host: header and entries.
struct DiscoveryLog {
  uint64_t generation = 0;
  std::vector<std::byte> page;
};

/// Another discovery service that is reported to hosts.
struct Referral {
  TransportAddress address;
  std::string subsystem_nqn = nvme::kDiscoveryNqn;
  bool secure_channel = false;
};

/// Builds a discovery log page entry by entry.
class DiscoveryLogBuilder {
 public:
  explicit DiscoveryLogBuilder(uint64_t generation);
  void AddSubsystem(const std::string& nqn, bool discovery, const TransportAddress& address,
                    uint16_t port_id, uint16_t admin_queue_size);
  void AddReferral(const Referral& referral);
  /// Returns the page; the builder is empty afterwards.
  DiscoveryLog Finish();

 private:
  void Add(const nvme::DiscoveryLogEntry& entry);

  DiscoveryLog log_;
  uint64_t count_ = 0;
};

}  // namespace sma::storage_target::nvmf
