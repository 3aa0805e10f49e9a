// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "storage_target/bdev_modules/nvme/initiator/address.h"
#include "storage_target/bdev_modules/nvme/initiator/controller.h"
#include "storage_target/nvme/fabrics.h"

namespace sma::storage_target::initiator {

/// A discovery log entry: an NVMe/TCP subsystem port or a discovery service.
struct DiscoveryEntry {
  nvme::DiscoverySubtype subtype = nvme::DiscoverySubtype::kNvm;
  Address address;
  std::string subnqn;

  // NOLINTNEXTLINE(modernize-use-nullptr): of the operator that the compiler makes
  friend auto operator<=>(const DiscoveryEntry&, const DiscoveryEntry&) = default;
};

/// Returns nullopt for an entry that has another transport or an unusable address or NQN. Missing
/// optional fields are filled in: the address family from the address, the port with IANA's number,
/// a referral's NQN with the well-known one.
std::optional<DiscoveryEntry> ParseDiscoveryEntry(const nvme::DiscoveryLogEntry& entry);

/// Reads the complete discovery log of a discovery controller, with all entries from the same
/// generation. Used on the controller's thread.
class DiscoveryLogReader {
 public:
  /// `entries` is nullopt if the log could not be read. Unusable entries are omitted.
  using Done = std::function<void(std::optional<std::vector<DiscoveryEntry>> entries)>;

  /// Starts reading. `controller` must be ready and outlive the reader. `done` is called once,
  /// later, unless the reader is destroyed or the controller is closed first; it may destroy the
  /// reader.
  DiscoveryLogReader(Controller& controller, Done done);
  DiscoveryLogReader(const DiscoveryLogReader&) = delete;
  DiscoveryLogReader& operator=(const DiscoveryLogReader&) = delete;

 private:
  void Read(uint64_t offset_bytes, uint64_t size_bytes, bool retain_event,
            void (DiscoveryLogReader::*next)(const Controller::Result& result));
  void Begin();
  void OnHeader(const Controller::Result& result);
  void ReadEntries();
  void OnEntries(const Controller::Result& result);
  void OnHeaderAgain(const Controller::Result& result);
  void Finish(std::optional<std::vector<DiscoveryEntry>> entries);

  Controller& controller_;
  Done done_;
  std::shared_ptr<DiscoveryLogReader*> self_ = std::make_shared<DiscoveryLogReader*>(this);
  int attempts_ = 0;
  nvme::DiscoveryLogHeader header_;
  uint64_t records_read_ = 0;
  uint64_t records_asked_ = 0;
  std::vector<DiscoveryEntry> entries_;
};

}  // namespace sma::storage_target::initiator
