#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "target/bdev_modules/nvme/initiator/address.h"
#include "target/bdev_modules/nvme/initiator/controller.h"
#include "target/nvme/fabrics.h"

namespace sma::target::initiator {

/// What a discovery log says of one NVMe/TCP subsystem port or discovery service.
struct DiscoveryEntry {
  nvme::DiscoverySubtype subtype = nvme::DiscoverySubtype::kNvm;
  Address address;
  std::string subnqn;

  // NOLINTNEXTLINE(modernize-use-nullptr): of the operator that the compiler makes
  friend auto operator<=>(const DiscoveryEntry&, const DiscoveryEntry&) = default;
};

/// nullopt for an entry of another transport, or whose address or NQN cannot be used. Fields that
/// may be missing are made up for: the address family by the address, the port by IANA's number, a
/// referral's NQN by the well-known one.
std::optional<DiscoveryEntry> ParseDiscoveryEntry(const nvme::DiscoveryLogEntry& entry);

/// Reads the whole discovery log of a discovery controller, all of it of one generation. Used in
/// the controller's thread.
class DiscoveryLogReader {
 public:
  /// nullopt: the log could not be read. Entries that cannot be used are left out.
  using Done = std::function<void(std::optional<std::vector<DiscoveryEntry>> entries)>;

  /// Begins. `controller` must be ready and outlive the reader. `done` is called once, later,
  /// unless the reader is destroyed or the controller closed first; it may destroy the reader.
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

}  // namespace sma::target::initiator
