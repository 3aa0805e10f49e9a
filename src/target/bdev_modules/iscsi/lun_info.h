#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/uuid.h"

// What a logical unit says about itself. The bytes come from a remote side: each function takes
// what was received, of any length.

namespace sma::target::bdev_iscsi {

using Bytes = std::span<const uint8_t>;

// Vital product data pages (SPC-4 §7.8, SBC-3 §6.5).
inline constexpr uint8_t kPageIdentification = 0x83;
inline constexpr uint8_t kPageBlockLimits = 0xb0;
inline constexpr uint8_t kPageProvisioning = 0xb2;

/// Whether standard INQUIRY data (SPC-4 §6.6.2) are those of a disk that is there.
bool IsDisk(Bytes data);

/// The parameter data of READ CAPACITY (16) (SBC-3 §5.16.2).
struct Capacity {
  uint64_t block_count = 0;
  uint32_t block_size = 0;  // bytes
  bool provisioned_thinly = false;

  static std::optional<Capacity> Parse(Bytes data);
  friend bool operator==(const Capacity&, const Capacity&) = default;
};

/// The vital product data page "Block Limits" (SBC-3 §6.5.3), in blocks; 0: no limit, or none told.
struct BlockLimits {
  uint32_t max_transfer = 0;
  uint32_t optimal_transfer = 0;
  uint32_t max_unmap = 0;
  uint32_t optimal_unmap = 0;  // the granularity of unmapping
  uint64_t max_write_same = 0;

  /// Without limits when the data are too short, or not of this page.
  static BlockLimits Parse(Bytes data);
};

/// The page "Logical Block Provisioning" (SBC-3 §6.5.4).
struct Provisioning {
  bool unmap = false;  // the command UNMAP
  bool unmap_reads_zero = false;

  static Provisioning Parse(Bytes data);
};

/// The best name that the page "Device Identification" (SPC-4 §7.8.5) has for the logical unit,
/// the designator's type before its bytes; empty when there is none. The same at each of its ports.
std::string ParseIdentity(Bytes data);

/// Whether the header of mode parameters (6) (SPC-4 §7.5.5, SBC-3 §6.4.1) says that the medium is
/// write-protected.
bool IsWriteProtected(Bytes data);

struct LunInfo {
  Capacity capacity;
  BlockLimits limits;
  Provisioning provisioning;
  std::string identity{};
  bool write_protected = false;

  /// The same each time for the same logical unit of the same target. The name of the target is
  /// part of it, since many targets number their units without regard to others.
  base::Uuid MakeUuid(std::string_view target, int lun) const;
  /// The same, as bdev::Bdev::Info::medium.
  std::string MakeMedium(std::string_view target, int lun) const;
};

}  // namespace sma::target::bdev_iscsi
