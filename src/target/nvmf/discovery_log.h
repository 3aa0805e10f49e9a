#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "target/nvme/fabrics.h"
#include "target/nvmf/transport_address.h"

namespace sma::target::nvmf {

/// A discovery log page (NVMe Base 2.0 §5.16.1.23) for one host: header and entries.
struct DiscoveryLog {
  uint64_t generation = 0;
  std::vector<std::byte> page;
};

/// Another discovery service that hosts are told about.
struct Referral {
  TransportAddress address;
  std::string subsystem_nqn = nvme::kDiscoveryNqn;
  bool secure_channel = false;
};

/// Builds a log page entry by entry.
class DiscoveryLogBuilder {
 public:
  explicit DiscoveryLogBuilder(uint64_t generation);
  void AddSubsystem(const std::string& nqn, bool discovery, const TransportAddress& address,
                    uint16_t port_id, uint16_t admin_queue_size);
  void AddReferral(const Referral& referral);
  /// The page; the builder is empty afterwards.
  DiscoveryLog Finish();

 private:
  void Add(const nvme::DiscoveryLogEntry& entry);

  DiscoveryLog log_;
  uint64_t count_ = 0;
};

}  // namespace sma::target::nvmf
