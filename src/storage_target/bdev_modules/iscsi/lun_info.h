// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/uuid.h"

// Parsers for the data that a logical unit reports about itself. The bytes come from a remote
// system, so each function accepts data of any length.

namespace sma::storage_target::bdev_iscsi {

using Bytes = std::span<const uint8_t>;

// Vital product data pages (SPC-4 §7.8, SBC-3 §6.5).
inline constexpr uint8_t kPageIdentification = 0x83;
inline constexpr uint8_t kPageBlockLimits = 0xb0;
inline constexpr uint8_t kPageProvisioning = 0xb2;

/// Returns true if standard INQUIRY data (SPC-4 §6.6.2) describe a connected disk.
bool IsDisk(Bytes data);

/// The parameter data of READ CAPACITY (16) (SBC-3 §5.16.2).
struct Capacity {
  uint64_t block_count = 0;
  uint32_t block_size = 0;  // in bytes
  bool provisioned_thinly = false;

  static std::optional<Capacity> Parse(Bytes data);
  friend bool operator==(const Capacity&, const Capacity&) = default;
};

/// The vital product data page "Block Limits" (SBC-3 §6.5.3), in blocks; 0 if there is no limit or
/// it is not reported.
struct BlockLimits {
  uint32_t max_transfer = 0;
  uint32_t optimal_transfer = 0;
  uint32_t max_unmap = 0;
  uint32_t optimal_unmap = 0;  // the granularity of unmapping
  uint64_t max_write_same = 0;

  /// Returns no limits if the data are too short or belong to a different page.
  static BlockLimits Parse(Bytes data);
};

/// The page "Logical Block Provisioning" (SBC-3 §6.5.4).
struct Provisioning {
  bool unmap = false;  // true if UNMAP is supported
  bool unmap_reads_zero = false;

  static Provisioning Parse(Bytes data);
};

/// Returns the best identifier of the logical unit in the page "Device Identification" (SPC-4
/// §7.8.5): the designator's type followed by its bytes; empty if there is none. It is the same at
/// each port of the unit.
std::string ParseIdentity(Bytes data);

/// Returns true if the mode parameter header (6) (SPC-4 §7.5.5, SBC-3 §6.4.1) reports a
/// write-protected medium.
bool IsWriteProtected(Bytes data);

struct LunInfo {
  Capacity capacity;
  BlockLimits limits;
  Provisioning provisioning;
  std::string identity{};
  bool write_protected = false;

  /// Returns a UUID that is always the same for a logical unit of a target. The name of the target
  /// is included, because targets number their units independently of each other.
  base::Uuid MakeUuid(std::string_view target, int lun) const;
  /// Returns the key for bdev::Bdev::Info::medium: if the unit has a worldwide identifier (NAA,
  /// EUI-64, UUID), the key is the same for all targets that export it; otherwise it corresponds to
  /// MakeUuid.
  std::string MakeMedium(std::string_view target, int lun) const;
};

}  // namespace sma::storage_target::bdev_iscsi
