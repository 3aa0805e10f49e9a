// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "storage_target/nvme/status.h"

/// Wire structures of NVMe Base 2.0, NVM Command Set 1.0 and NVMe over Fabrics. They are read and
/// written with memcpy or std::bit_cast. Fields are in wire byte order, which is little-endian like
/// the platform's.
namespace sma::storage_target::nvme {

static_assert(std::endian::native == std::endian::little,
              "wire structures need a little-endian machine");

/// The SGL descriptor type (NVMe Base 2.0 §4.1.2, byte 15), with the type in bits 7:4 and the
/// subtype in bits 3:0.
enum class SglType : uint8_t {
  kDataBlockAddress = 0x00,
  kDataBlockOffset = 0x01,  // in-capsule data
  kBitBucket = 0x10,
  kSegment = 0x20,
  kLastSegment = 0x30,
  kKeyedDataBlock = 0x40,
  kTransportDataBlock = 0x5a,  // transferred by messages of the transport
};

struct Sgl {
  uint64_t address = 0;  // kDataBlockOffset: offset into the in-capsule data
  uint32_t length = 0;   // bytes
  uint8_t reserved[3] = {};
  SglType type = SglType::kDataBlockAddress;
};
static_assert(sizeof(Sgl) == 16);

/// Command::flags, NVMe Base 2.0 §3.3.3.1 ("CDW0").
inline constexpr uint8_t kFuseMask = 0x03;
inline constexpr uint8_t kFuseFirst = 0x01;
inline constexpr uint8_t kFuseSecond = 0x02;
inline constexpr uint8_t kPsdtMask = 0xc0;
inline constexpr uint8_t kPsdtPrp = 0x00;
inline constexpr uint8_t kPsdtSgl = 0x40;             // MPTR is an address
inline constexpr uint8_t kPsdtSglMetadataSgl = 0x80;  // MPTR points to an SGL segment

/// A submission queue entry, NVMe Base 2.0 §3.3.3.1.
struct Command {
  uint8_t opcode = 0;
  uint8_t flags = 0;
  uint16_t cid = 0;
  uint32_t nsid = 0;
  uint32_t cdw2 = 0;
  uint32_t cdw3 = 0;
  uint64_t mptr = 0;
  Sgl sgl;  // DPTR; with kPsdtPrp, address is PRP1 and the other eight bytes are PRP2
  uint32_t cdw10 = 0;
  uint32_t cdw11 = 0;
  uint32_t cdw12 = 0;
  uint32_t cdw13 = 0;
  uint32_t cdw14 = 0;
  uint32_t cdw15 = 0;

  /// Returns CDW10 and CDW11 as one value, which is the starting LBA of I/O commands.
  uint64_t lba() const { return uint64_t{cdw11} << 32 | cdw10; }
  void set_lba(uint64_t lba) {
    cdw10 = static_cast<uint32_t>(lba);
    cdw11 = static_cast<uint32_t>(lba >> 32);
  }
};
static_assert(sizeof(Command) == 64 && std::is_trivially_copyable_v<Command>);
static_assert(offsetof(Command, sgl) == 24 && offsetof(Command, cdw10) == 40);

/// A completion queue entry, NVMe Base 2.0 §3.3.3.2.
struct Completion {
  uint32_t dw0 = 0;
  uint32_t dw1 = 0;
  uint16_t sq_head = 0;
  uint16_t sq_id = 0;
  uint16_t cid = 0;
  uint16_t status = 0;  // phase tag, status, flags: see StatusField()
};
static_assert(sizeof(Completion) == 16);

enum class AdminOpcode : uint8_t {
  kDeleteIoSq = 0x00,
  kCreateIoSq = 0x01,
  kGetLogPage = 0x02,
  kDeleteIoCq = 0x04,
  kCreateIoCq = 0x05,
  kIdentify = 0x06,
  kAbort = 0x08,
  kSetFeatures = 0x09,
  kGetFeatures = 0x0a,
  kAsyncEventRequest = 0x0c,
  kKeepAlive = 0x18,
  kDoorbellBufferConfig = 0x7c,
  kFabrics = 0x7f,
};

enum class IoOpcode : uint8_t {
  kFlush = 0x00,
  kWrite = 0x01,
  kRead = 0x02,
  kWriteUncorrectable = 0x04,
  kCompare = 0x05,
  kWriteZeroes = 0x08,
  kDatasetManagement = 0x09,
  kVerify = 0x0c,
  kReservationRegister = 0x0d,
  kReservationReport = 0x0e,
  kReservationAcquire = 0x11,
  kReservationRelease = 0x15,
  kCopy = 0x19,
};

/// The direction of a command's data, opcode bits 1:0 (NVMe Base 2.0 §3.3.3.1): bit 0 is host to
/// controller, bit 1 controller to host. Fabrics commands encode it in FCTYPE instead.
enum class Transfer : uint8_t {
  kNone = 0,
  kHostToController = 1,
  kControllerToHost = 2,
  kBidirectional = 3
};
constexpr Transfer TransferOf(uint8_t opcode) { return static_cast<Transfer>(opcode & 3); }

inline constexpr uint32_t kBroadcastNsid = 0xffffffff;

/// cdw12 of Read, Write, Compare, Write Zeroes, Verify (NVM Command Set 1.0 §3.2).
inline constexpr uint32_t kNlbMask = 0xffff;  // number of logical blocks, 0's based
inline constexpr uint32_t kDeac = 1u << 25;   // Write Zeroes: deallocate
inline constexpr uint32_t kPrinfoMask = 0xfu << 26;
inline constexpr uint32_t kFua = 1u << 30;
inline constexpr uint32_t kLimitedRetry = 1u << 31;

/// Dataset Management, NVM Command Set 1.0 §3.2.3: cdw10 bits 7:0 number of ranges (0's based),
/// cdw11 attributes.
inline constexpr uint32_t kDsmIntegralRead = 1u << 0;
inline constexpr uint32_t kDsmIntegralWrite = 1u << 1;
inline constexpr uint32_t kDsmDeallocate = 1u << 2;
inline constexpr uint32_t kDsmMaxRanges = 256;

struct DsmRange {
  uint32_t attributes = 0;
  uint32_t block_count = 0;
  uint64_t lba = 0;
};
static_assert(sizeof(DsmRange) == 16);

/// Get/Set Features, NVMe Base 2.0 §5.27 ("Feature Identifiers"); cdw10 bits 7:0.
enum class Feature : uint8_t {
  kArbitration = 0x01,
  kPowerManagement = 0x02,
  kTemperatureThreshold = 0x04,
  kErrorRecovery = 0x05,
  kVolatileWriteCache = 0x06,
  kNumberOfQueues = 0x07,
  kInterruptCoalescing = 0x08,
  kInterruptVectorConfig = 0x09,
  kWriteAtomicity = 0x0a,
  kAsyncEventConfig = 0x0b,
  kTimestamp = 0x0e,
  kKeepAliveTimer = 0x0f,
  kHostBehaviorSupport = 0x16,
  kHostIdentifier = 0x81,
  kReservationNotificationMask = 0x82,
  kReservationPersistence = 0x83,
};
inline constexpr uint32_t kFeatureSave = 1u << 31;  // Set Features cdw10
inline constexpr uint32_t kFeatureSelectShift = 8;  // Get Features cdw10 bits 10:8
enum class FeatureSelect : uint8_t { kCurrent = 0, kDefault = 1, kSaved = 2, kCapabilities = 3 };

/// Feature kAsyncEventConfig, cdw11 (NVMe Base 2.0 §5.27.1.8).
inline constexpr uint32_t kAecSmartMask = 0xff;
inline constexpr uint32_t kAecNamespaceAttributes = 1u << 8;
inline constexpr uint32_t kAecFirmwareActivation = 1u << 9;
inline constexpr uint32_t kAecAnaChange = 1u << 11;
inline constexpr uint32_t kAecDiscoveryLogChange = 1u << 31;

/// Completion dword 0 of an Asynchronous Event Request (NVMe Base 2.0 §5.2): bits 2:0 type, 15:8
/// information, 23:16 log page.
enum class AsyncEventType : uint8_t { kError = 0, kSmart = 1, kNotice = 2 };
enum class AsyncEventNotice : uint8_t {
  kNamespaceAttributeChanged = 0x00,
  kFirmwareActivation = 0x01,
  kAnaChange = 0x03,
  kDiscoveryLogChange = 0xf0,
};
constexpr uint32_t AsyncEventDw0(AsyncEventType type, uint8_t information, uint8_t log_page) {
  return static_cast<uint32_t>(type) | uint32_t{information} << 8 | uint32_t{log_page} << 16;
}

}  // namespace sma::storage_target::nvme
