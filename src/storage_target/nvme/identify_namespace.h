// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "storage_target/nvme/identify.h"

namespace sma::storage_target::nvme {

struct LbaFormat {
  uint16_t metadata_size = 0;
  uint8_t block_shift = 0;  // LBADS: log2 of the block size in bytes
  uint8_t relative_performance = 0;
};
static_assert(sizeof(LbaFormat) == 4);

/// NVM Command Set 1.0 §4.1.5.1.
struct IdentifyNamespace {
  uint64_t nsze = 0;  // blocks
  uint64_t ncap = 0;
  uint64_t nuse = 0;
  uint8_t nsfeat = 0;
  uint8_t nlbaf = 0;  // 0's based
  uint8_t flbas = 0;
  uint8_t mc = 0;
  uint8_t dpc = 0;
  uint8_t dps = 0;
  uint8_t nmic = 0;
  uint8_t rescap = 0;
  uint8_t fpi = 0;
  uint8_t dlfeat = 0;
  uint16_t nawun = 0;
  uint16_t nawupf = 0;
  uint16_t nacwu = 0;
  uint16_t nabsn = 0;
  uint16_t nabo = 0;
  uint16_t nabspf = 0;
  uint16_t noiob = 0;
  std::array<uint8_t, 16> nvmcap{};
  uint16_t npwg = 0;
  uint16_t npwa = 0;
  uint16_t npdg = 0;
  uint16_t npda = 0;
  uint16_t nows = 0;
  uint16_t mssrl = 0;
  uint32_t mcl = 0;
  uint8_t msrc = 0;
  uint8_t reserved81[11] = {};
  uint32_t anagrpid = 0;
  uint8_t reserved96[3] = {};
  uint8_t nsattr = 0;
  uint16_t nvmsetid = 0;
  uint16_t endgid = 0;
  std::array<uint8_t, 16> nguid{};
  std::array<uint8_t, 8> eui64{};
  std::array<LbaFormat, 64> lba_formats{};
  uint8_t vendor_specific[3712] = {};

  /// Returns the current LBA format: FLBAS bits 6:5 and 3:0 (NVM Command Set 1.0 §4.1.5.1).
  const LbaFormat& lba_format() const {
    return lba_formats[(flbas & 0xf) | (flbas >> 5 & 0x3) << 4];
  }
};
static_assert(sizeof(IdentifyNamespace) == kIdentifySize);
static_assert(offsetof(IdentifyNamespace, dlfeat) == 33);
static_assert(offsetof(IdentifyNamespace, npwg) == 64);
static_assert(offsetof(IdentifyNamespace, anagrpid) == 92);
static_assert(offsetof(IdentifyNamespace, nguid) == 104);
static_assert(offsetof(IdentifyNamespace, lba_formats) == 128);

inline constexpr uint8_t kNsfeatThin = 1u << 0;
inline constexpr uint8_t kNsfeatIdsNotReused = 1u << 3;
inline constexpr uint8_t kNsfeatOptimalPerformance =
    1u << 4;  // NPWG, NPWA, NPDG, NPDA and NOWS are valid
inline constexpr uint8_t kNmicShared = 1u << 0;
inline constexpr uint8_t kDlfeatReadsZeroes = 1u << 0;  // bits 2:0
inline constexpr uint8_t kDlfeatWriteZeroesDeallocates = 1u << 3;
inline constexpr uint8_t kNsattrWriteProtected = 1u << 0;

/// A descriptor of CNS 03h (NVMe Base 2.0 §5.17.2.3): this header, followed by `length` bytes of
/// identifier. The list ends with a header of length 0 or after 4,096 bytes.
enum class NamespaceIdType : uint8_t { kEui64 = 1, kNguid = 2, kUuid = 3, kCommandSet = 4 };
struct NamespaceDescriptor {
  NamespaceIdType type = NamespaceIdType::kEui64;
  uint8_t length = 0;  // EUI64 8, NGUID 16, UUID 16, CSI 1
  uint8_t reserved[2] = {};
};
static_assert(sizeof(NamespaceDescriptor) == 4);

/// CNS 02h and log page 04h: NSIDs in ascending order, terminated by 0 unless the list is full.
using NamespaceList = std::array<uint32_t, 1024>;
static_assert(sizeof(NamespaceList) == kIdentifySize);

/// CNS 05h for the NVM command set (NVM Command Set 1.0 §4.1.5.3); all zeroes without end-to-end
/// protection.
struct NvmIdentifyNamespace {
  uint64_t lbstm = 0;
  uint8_t pic = 0;
  uint8_t reserved9[3] = {};
  std::array<uint32_t, 64> elbaf{};
  uint8_t reserved268[3828] = {};
};
static_assert(sizeof(NvmIdentifyNamespace) == kIdentifySize);

/// CNS 06h for the NVM command set (NVM Command Set 1.0 §4.1.5.2).
struct NvmIdentifyController {
  uint8_t verify_limit = 0;               // VSL, in the unit of MDTS
  uint8_t write_zeroes_limit = 0;         // WZSL, in the unit of MDTS
  uint8_t write_uncorrectable_limit = 0;  // WUSL
  uint8_t dsm_ranges_limit = 0;           // DMRL: ranges per command; 0: not reported
  uint32_t dsm_range_size_limit = 0;      // DMRSL: blocks per range
  uint64_t dsm_size_limit = 0;            // DMSL: blocks per command
  uint8_t reserved16[4080] = {};
};
static_assert(sizeof(NvmIdentifyController) == kIdentifySize);

/// CNS 08h (NVMe Base 2.0 §5.17.2.8).
struct IndependentIdentifyNamespace {
  uint8_t nsfeat = 0;
  uint8_t nmic = 0;
  uint8_t rescap = 0;
  uint8_t fpi = 0;
  uint32_t anagrpid = 0;
  uint8_t nsattr = 0;
  uint8_t reserved9 = 0;
  uint16_t nvmsetid = 0;
  uint16_t endgid = 0;
  uint8_t nstat = 0;  // bit 0: ready
  uint8_t reserved15[4081] = {};
};
static_assert(sizeof(IndependentIdentifyNamespace) == kIdentifySize);

/// CNS 1Ch (NVMe Base 2.0 §5.17.2.21): one vector per combination of command sets, one bit per
/// command set.
using CommandSetVectors = std::array<uint64_t, 512>;
static_assert(sizeof(CommandSetVectors) == kIdentifySize);

/// CNS 12h, 13h: controller IDs in ascending order.
struct ControllerList {
  uint16_t count = 0;
  std::array<uint16_t, 2047> ids{};
};
static_assert(sizeof(ControllerList) == kIdentifySize);

}  // namespace sma::storage_target::nvme
