// SPDX-License-Identifier: Apache-2.0

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
#include "storage_target/nvme/identify.h"
#include "storage_target/nvme/identify_namespace.h"

/// The data that a controller reports about itself and its namespaces, validated and in host byte
/// order. All of it comes from a remote system and is not trusted.
namespace sma::storage_target::initiator {

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
  uint32_t in_capsule_bytes = 0;  // maximum data in an I/O command's capsule
  uint64_t max_transfer_bytes = 0;
  uint64_t max_write_zeroes_bytes = 0;  // of one Write Zeroes
  uint64_t max_unmap_range_blocks = 0;  // of one range of Dataset Management
  uint16_t oacs = 0;
  uint16_t oncs = 0;
  uint32_t oaes = 0;
  uint8_t cmic = 0;
  uint32_t ana_group_count = 0;            // NANAGRPID, at most 1,024; 0: no ANA reporting
  uint32_t keep_alive_granularity_ms = 0;  // KAS; 0: not reported
  uint16_t command_quiesce_ms = 0;         // CQT; 0: not reported
  uint16_t abort_limit = 1;                // maximum number of concurrent Abort commands
  std::array<std::chrono::milliseconds, 4> retry_delays{};  // by nvme::RetryDelayIndex
  bool write_cache = true;  // false only if the controller reports that it has none
};

/// Parses Identify Controller and the properties CAP and VS. A discovery controller leaves most
/// fields zero.
ControllerInfo ParseController(const nvme::IdentifyController& data, uint64_t cap,
                               uint32_t version);

/// Sets the limits of Write Zeroes and Dataset Management from the controller's data of the NVM
/// command set. Otherwise they remain as set by ParseController: the transfer limit and no limit,
/// respectively.
void ApplyNvmLimits(const nvme::NvmIdentifyController& data, uint64_t cap, ControllerInfo& info);

struct NamespaceInfo {
  uint32_t nsid = 0;
  base::Uuid
      uuid;  // its UUID, otherwise its NGUID, otherwise derived from its EUI64; nil if it has none
  std::array<uint8_t, 16> nguid{};  // as reported; zero if it has none
  std::array<uint8_t, 8> eui64{};
  uint32_t ana_group = 0;   // ANAGRPID
  uint32_t block_size = 0;  // in bytes, 512 to 64 KiB
  uint64_t block_count = 0;
  bool shared = false;  // may be attached to several controllers (NMIC)
  bool write_protected = false;
  bool reads_zeroes_after_unmap = false;
  // Preferences in blocks; 0: not reported.
  uint32_t write_alignment = 0;
  uint32_t write_granularity = 0;
  uint32_t optimal_write_size = 0;
  uint32_t unmap_alignment = 0;
  uint32_t unmap_granularity = 0;

  friend bool operator==(const NamespaceInfo&, const NamespaceInfo&) = default;
};

/// Parses Identify Namespace; `uuid` is set from NGUID and EUI64. Returns nullopt for a namespace
/// that cannot be used: without blocks, with an invalid block size, or with metadata.
std::optional<NamespaceInfo> ParseNamespace(uint32_t nsid, const nvme::IdentifyNamespace& data);

/// Sets `uuid` from a list of Namespace Identification Descriptors if the list contains an
/// identifier.
void ApplyDescriptors(std::span<const std::byte> list, NamespaceInfo& info);

/// Returns the ids of an Active Namespace List that are greater than `after`, in ascending order;
/// stops at the first that is not greater than its predecessor.
std::vector<uint32_t> ParseNamespaceList(const nvme::NamespaceList& list, uint32_t after);

}  // namespace sma::storage_target::initiator
