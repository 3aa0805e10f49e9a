// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>

namespace sma::storage_target::nvme {

/// Controller properties, NVMe Base 2.0 §3.1.3: registers of a PCIe function; Property Get and
/// Property Set in Fabrics.
enum class Property : uint32_t {
  kCap = 0x00,    // 8 bytes
  kVs = 0x08,     // 4
  kIntms = 0x0c,  // 4, not Fabrics
  kIntmc = 0x10,  // 4, not Fabrics
  kCc = 0x14,     // 4
  kCsts = 0x1c,   // 4
  kNssr = 0x20,   // 4
  kAqa = 0x24,    // 4, not Fabrics
  kAsq = 0x28,    // 8, not Fabrics
  kAcq = 0x30,    // 8, not Fabrics
  kCrto = 0x68,   // 4
};

/// Offset of the doorbells, each of 4 << CAP.DSTRD bytes (PCIe only).
inline constexpr uint32_t kDoorbellOffset = 0x1000;

/// Returns a value of VS, for example for version 1.4: major version in bits 31:16, minor in 15:8,
/// tertiary in 7:0.
constexpr uint32_t MakeVersion(uint32_t major, uint32_t minor, uint32_t tertiary = 0) {
  return major << 16 | minor << 8 | tertiary;
}

/// Memory page size with MPSMIN 0, in bytes; the unit of MDTS and similar limits.
inline constexpr uint32_t kMinPageSize = 4096;

/// CAP, NVMe Base 2.0 §3.1.3.1.
struct Capabilities {
  uint16_t max_queue_entries = 1;  // 1's based; MQES + 1
  bool contiguous_queues = true;   // CQR
  uint32_t timeout_500ms = 0;      // TO, up to 255
  uint8_t doorbell_stride = 0;     // DSTRD
  bool subsystem_reset = false;    // NSSRS
  uint8_t command_sets = 1;        // CSS: bit 0 NVM
  uint8_t min_page_shift = 0;      // MPSMIN: 4 KiB << n
  uint8_t max_page_shift = 0;      // MPSMAX

  constexpr uint64_t Encode() const {
    return uint64_t{static_cast<uint16_t>(max_queue_entries - 1)} |
           uint64_t{contiguous_queues} << 16 | uint64_t{timeout_500ms & 0xff} << 24 |
           uint64_t{doorbell_stride} << 32 | uint64_t{subsystem_reset} << 36 |
           uint64_t{command_sets} << 37 | uint64_t{min_page_shift} << 48 |
           uint64_t{max_page_shift} << 52;
  }
};
constexpr uint32_t CapMaxQueueEntries(uint64_t cap) {
  return static_cast<uint32_t>(cap & 0xffff) + 1;
}
constexpr uint32_t CapTimeout500Ms(uint64_t cap) { return static_cast<uint32_t>(cap >> 24 & 0xff); }
constexpr uint32_t CapMinPageShift(uint64_t cap) { return static_cast<uint32_t>(cap >> 48 & 0xf); }

/// CC, NVMe Base 2.0 §3.1.3.5.
inline constexpr uint32_t kCcEnable = 1u << 0;
inline constexpr uint32_t kCcCssShift = 4;      // 3 bits
inline constexpr uint32_t kCcMpsShift = 7;      // 4 bits
inline constexpr uint32_t kCcAmsShift = 11;     // 3 bits
inline constexpr uint32_t kCcShnShift = 14;     // 2 bits
inline constexpr uint32_t kCcIosqesShift = 16;  // 4 bits
inline constexpr uint32_t kCcIocqesShift = 20;  // 4 bits
constexpr uint32_t CcCss(uint32_t cc) { return cc >> kCcCssShift & 0x7; }
constexpr uint32_t CcMps(uint32_t cc) { return cc >> kCcMpsShift & 0xf; }
constexpr uint32_t CcAms(uint32_t cc) { return cc >> kCcAmsShift & 0x7; }
constexpr uint32_t CcShn(uint32_t cc) { return cc >> kCcShnShift & 0x3; }
constexpr uint32_t CcIosqes(uint32_t cc) { return cc >> kCcIosqesShift & 0xf; }
constexpr uint32_t CcIocqes(uint32_t cc) { return cc >> kCcIocqesShift & 0xf; }
inline constexpr uint32_t kShutdownNormal = 1;
inline constexpr uint32_t kShutdownAbrupt = 2;
/// log2 of the queue entry sizes, for CC and for SQES and CQES of Identify.
inline constexpr uint32_t kSqEntryShift = 6;
inline constexpr uint32_t kCqEntryShift = 4;

/// CSTS, NVMe Base 2.0 §3.1.3.6.
inline constexpr uint32_t kCstsReady = 1u << 0;
inline constexpr uint32_t kCstsFatal = 1u << 1;
inline constexpr uint32_t kCstsShutdownMask = 3u << 2;
inline constexpr uint32_t kCstsShutdownOccurring = 1u << 2;
inline constexpr uint32_t kCstsShutdownComplete = 2u << 2;

}  // namespace sma::storage_target::nvme
