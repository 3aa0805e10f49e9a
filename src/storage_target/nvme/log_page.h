// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "storage_target/nvme/command.h"

namespace sma::storage_target::nvme {

/// LID of Get Log Page, cdw10 bits 7:0 (NVMe Base 2.0 §5.16).
enum class LogPage : uint8_t {
  kSupportedLogPages = 0x00,
  kError = 0x01,
  kSmart = 0x02,
  kFirmwareSlot = 0x03,
  kChangedNamespaces = 0x04,
  kCommandsEffects = 0x05,
  kAna = 0x0c,
  kDiscovery = 0x70,
};

/// The fields of a Get Log Page command.
struct GetLogPage {
  LogPage page;
  bool retain_event;      // RAE
  uint64_t size_bytes;    // NUMD, converted to bytes
  uint64_t offset_bytes;  // LPO
  bool offset_is_index;   // OT
  uint8_t specific = 0;   // LSP, 7 bits

  static GetLogPage Decode(const Command& command) {
    uint64_t dwords = (uint64_t{command.cdw11 & 0xffff} << 16 | command.cdw10 >> 16) + 1;
    return {.page = static_cast<LogPage>(command.cdw10 & 0xff),
            .retain_event = (command.cdw10 & kRetainEvent) != 0,
            .size_bytes = dwords * 4,
            .offset_bytes = uint64_t{command.cdw13} << 32 | command.cdw12,
            .offset_is_index = (command.cdw14 & kOffsetType) != 0,
            .specific = static_cast<uint8_t>(command.cdw10 >> 8 & 0x7f)};
  }
  /// `size_bytes` must be a multiple of 4.
  void Encode(Command& command) const {
    auto dwords = static_cast<uint32_t>(size_bytes / 4 - 1);
    command.cdw10 = static_cast<uint32_t>(page) | static_cast<uint32_t>(specific & 0x7f) << 8 |
                    (retain_event ? kRetainEvent : 0) | (dwords & 0xffff) << 16;
    command.cdw11 = dwords >> 16;
    command.cdw12 = static_cast<uint32_t>(offset_bytes);
    command.cdw13 = static_cast<uint32_t>(offset_bytes >> 32);
    command.cdw14 = offset_is_index ? kOffsetType : 0;
  }

  static constexpr uint32_t kRetainEvent = 1u << 15;
  static constexpr uint32_t kOffsetType = 1u << 23;
};

/// NVMe Base 2.0 §5.16.1.2.
struct ErrorLogEntry {
  uint64_t error_count = 0;
  uint16_t sq_id = 0;
  uint16_t cid = 0;
  uint16_t status = 0;
  uint16_t parameter_location = 0;
  uint64_t lba = 0;
  uint32_t nsid = 0;
  uint8_t vendor_page = 0;
  uint8_t transport = 0;
  uint8_t reserved30[2] = {};
  uint64_t command_specific = 0;
  uint16_t transport_specific = 0;
  uint8_t reserved42[22] = {};
};
static_assert(sizeof(ErrorLogEntry) == 64);
static_assert(offsetof(ErrorLogEntry, command_specific) == 32);

/// A 128-bit counter of the SMART page.
struct Counter128 {
  uint64_t low = 0;
  uint64_t high = 0;
};

/// NVMe Base 2.0 §5.16.1.3.
struct SmartLog {
  uint8_t critical_warning = 0;
  std::array<uint8_t, 2> composite_temperature{};  // kelvins
  uint8_t available_spare = 100;                   // percent
  uint8_t available_spare_threshold = 0;
  uint8_t percentage_used = 0;
  uint8_t endurance_group_warning = 0;
  uint8_t reserved7[25] = {};
  Counter128 data_units_read;  // thousands of 512 bytes, rounded up
  Counter128 data_units_written;
  Counter128 host_reads;
  Counter128 host_writes;
  Counter128 busy_minutes;
  Counter128 power_cycles;
  Counter128 power_on_hours;
  Counter128 unsafe_shutdowns;
  Counter128 media_errors;
  Counter128 error_log_entries;
  uint32_t warning_temperature_minutes = 0;
  uint32_t critical_temperature_minutes = 0;
  std::array<uint16_t, 8> temperature_sensors{};
  std::array<uint32_t, 4> thermal_management{};
  uint8_t reserved232[280] = {};
};
static_assert(sizeof(SmartLog) == 512);
static_assert(offsetof(SmartLog, data_units_read) == 32);
static_assert(offsetof(SmartLog, warning_temperature_minutes) == 192);

/// NVMe Base 2.0 §5.16.1.4.
struct FirmwareSlotLog {
  uint8_t active = 1;  // AFI: bits 2:0 active slot
  uint8_t reserved1[7] = {};
  std::array<std::array<char, 8>, 7> revisions{};
  uint8_t reserved64[448] = {};
};
static_assert(sizeof(FirmwareSlotLog) == 512);

/// Asymmetric Namespace Access, NVMe Base 2.0 §5.16.1.13: this header, then one descriptor for each
/// ANA group, each followed by the NSIDs of the group (4 bytes each).
struct AnaLogHeader {
  uint64_t change_count = 0;
  uint16_t group_count = 0;
  uint8_t reserved10[6] = {};
};
static_assert(sizeof(AnaLogHeader) == 16);
enum class AnaState : uint8_t {
  kOptimized = 0x1,
  kNonOptimized = 0x2,
  kInaccessible = 0x3,
  kPersistentLoss = 0x4,
  kChange = 0xf,
};
struct AnaGroupDescriptor {
  uint32_t group_id = 0;
  uint32_t nsid_count = 0;
  uint64_t change_count = 0;
  uint8_t state = 0;  // bits 3:0: AnaState
  uint8_t reserved17[15] = {};
};
static_assert(sizeof(AnaGroupDescriptor) == 32);
/// RGO in GetLogPage::specific: return descriptors without NSIDs.
inline constexpr uint8_t kAnaGroupsOnly = 1u << 0;

/// NVMe Base 2.0 §5.16.1.6.
struct CommandsEffectsLog {
  std::array<uint32_t, 256> admin{};
  std::array<uint32_t, 256> io{};
  uint8_t reserved2048[2048] = {};
};
static_assert(sizeof(CommandsEffectsLog) == 4096);
inline constexpr uint32_t kEffectSupported = 1u << 0;
inline constexpr uint32_t kEffectDataChanges = 1u << 1;  // LBCC

/// NVMe Base 2.0 §5.16.1.1. Bit 0 of an entry: the log page is supported.
using SupportedLogPages = std::array<uint32_t, 256>;

/// The changed namespace list if more than 1,024 namespaces have changed: this NSID, then zeroes
/// (§5.16.1.5).
inline constexpr uint32_t kTooManyChangedNamespaces = 0xffffffff;

}  // namespace sma::storage_target::nvme
