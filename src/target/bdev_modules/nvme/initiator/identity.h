#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/uuid.h"
#include "target/nvme/identify.h"
#include "target/nvme/identify_namespace.h"

/// What a controller tells about itself and its namespaces, checked and in the terms of this
/// machine. Everything here comes from a remote side and is read defensively.
namespace sma::target::initiator {

struct ControllerInfo {
  uint16_t controller_id = 0;
  uint16_t vendor_id = 0;
  std::string serial_number;
  std::string model_number;
  std::string firmware_revision;
  std::string subnqn;
  uint32_t version = 0;  // VS, see nvme::MakeVersion
  nvme::ControllerType type = nvme::ControllerType::kIo;
  uint16_t max_queue_entries = 2;
  uint32_t in_capsule_bytes = 0;  // most data in an I/O command's capsule
  uint64_t max_transfer_bytes = 0;
  uint64_t max_write_zeroes_bytes = 0;  // of one Write Zeroes
  uint64_t max_unmap_range_blocks = 0;  // of one range of Dataset Management
  uint16_t oacs = 0;
  uint16_t oncs = 0;
  uint32_t oaes = 0;
  uint8_t cmic = 0;
  uint32_t ana_group_count = 0;  // NANAGRPID, 1,024 at most; 0: no ANA reporting
  uint16_t abort_limit = 1;      // Abort commands at once
  std::array<std::chrono::milliseconds, 4> retry_delays{};  // by nvme::RetryDelayIndex
  bool write_cache = true;  // as long as the controller has not said that it has none
};

/// From Identify Controller and the properties CAP and VS. A discovery controller leaves most of it
/// zero.
ControllerInfo ParseController(const nvme::IdentifyController& data, uint64_t cap,
                               uint32_t version);

/// Sets the limits of Write Zeroes and Dataset Management from the controller's data of the NVM
/// command set. Without those, they are as ParseController leaves them: as for transfers, and none.
void ApplyNvmLimits(const nvme::NvmIdentifyController& data, uint64_t cap, ControllerInfo& info);

struct NamespaceInfo {
  uint32_t nsid = 0;
  base::Uuid
      uuid;  // its UUID, else its NGUID, else what derives from its EUI64; nil when it has none
  std::array<uint8_t, 16> nguid{};  // as reported; zero when it has none
  std::array<uint8_t, 8> eui64{};
  uint32_t ana_group = 0;   // ANAGRPID
  uint32_t block_size = 0;  // bytes, 512 to 64 KiB
  uint64_t block_count = 0;
  bool shared = false;  // other controllers may have it, too (NMIC)
  bool write_protected = false;
  bool reads_zeroes_after_unmap = false;
  // Preferences in blocks; 0: none given.
  uint32_t write_alignment = 0;
  uint32_t write_granularity = 0;
  uint32_t optimal_write_size = 0;
  uint32_t unmap_alignment = 0;
  uint32_t unmap_granularity = 0;

  friend bool operator==(const NamespaceInfo&, const NamespaceInfo&) = default;
};

/// From Identify Namespace; `uuid` is set from NGUID and EUI64. nullopt for one that cannot be
/// used: no blocks, a size of blocks that is none, metadata.
std::optional<NamespaceInfo> ParseNamespace(uint32_t nsid, const nvme::IdentifyNamespace& data);

/// Sets `uuid` from a list of Namespace Identification Descriptors as far as it names one.
void ApplyDescriptors(std::span<const std::byte> list, NamespaceInfo& info);

/// The ids of an Active Namespace List that are above `after`, ascending; ends at the first that is
/// not above the one before.
std::vector<uint32_t> ParseNamespaceList(const nvme::NamespaceList& list, uint32_t after);

}  // namespace sma::target::initiator
