// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace sma::storage_target::nvme {

/// CNS of Identify, cdw10 bits 7:0 (NVMe Base 2.0 §5.17); cdw10 bits 31:16 CNTID; cdw11 bits 31:24
/// CSI.
enum class Cns : uint8_t {
  kNamespace = 0x00,
  kController = 0x01,
  kActiveNamespaceList = 0x02,
  kNamespaceDescriptors = 0x03,
  kCommandSetNamespace = 0x05,
  kCommandSetController = 0x06,
  kCommandSetActiveNamespaceList = 0x07,
  kIndependentNamespace = 0x08,
  kAllocatedNamespaceList = 0x10,
  kAllocatedNamespace = 0x11,
  kNamespaceControllerList = 0x12,
  kControllerList = 0x13,
  kCommandSets = 0x1c,
};
inline constexpr uint8_t kCsiNvm = 0x00;
inline constexpr size_t kIdentifySize = 4096;  // size of each structure below, in bytes

enum class ControllerType : uint8_t { kIo = 1, kDiscovery = 2, kAdministrative = 3 };

/// NVMe Base 2.0 §5.17.2.1 (I/O command set fields: NVM Command Set 1.0 §4.1.5).
struct IdentifyController {
  uint16_t vendor_id = 0;
  uint16_t subsystem_vendor_id = 0;
  std::array<char, 20> serial_number{};  // this and the next two: padded with spaces
  std::array<char, 40> model_number{};
  std::array<char, 8> firmware_revision{};
  uint8_t rab = 0;
  std::array<uint8_t, 3> ieee{};
  uint8_t cmic = 0;
  uint8_t mdts = 0;  // log2 in units of the CAP.MPSMIN page size; 0: no limit
  uint16_t controller_id = 0;
  uint32_t version = 0;
  uint32_t rtd3r = 0;
  uint32_t rtd3e = 0;
  uint32_t oaes = 0;
  uint32_t ctratt = 0;
  uint16_t rrls = 0;
  uint8_t reserved102[9] = {};
  ControllerType controller_type = ControllerType::kIo;
  std::array<uint8_t, 16> fguid{};
  std::array<uint16_t, 3> crdt{};
  uint8_t reserved134[119] = {};
  uint8_t nvmsr = 0;
  uint8_t vwci = 0;
  uint8_t mec = 0;
  uint16_t oacs = 0;
  uint8_t abort_limit = 0;                // ACL, 0's based
  uint8_t async_event_request_limit = 0;  // AERL, 0's based
  uint8_t frmw = 0;
  uint8_t lpa = 0;
  uint8_t error_log_entries = 0;  // ELPE, 0's based
  uint8_t npss = 0;
  uint8_t avscc = 0;
  uint8_t apsta = 0;
  uint16_t wctemp = 0;
  uint16_t cctemp = 0;
  uint16_t mtfa = 0;
  uint32_t hmpre = 0;
  uint32_t hmmin = 0;
  std::array<uint8_t, 16> tnvmcap{};
  std::array<uint8_t, 16> unvmcap{};
  uint32_t rpmbs = 0;
  uint16_t edstt = 0;
  uint8_t dsto = 0;
  uint8_t fwug = 0;
  uint16_t keep_alive_100ms = 0;  // KAS
  uint16_t hctma = 0;
  uint16_t mntmt = 0;
  uint16_t mxtmt = 0;
  uint32_t sanicap = 0;
  uint32_t hmminds = 0;
  uint16_t hmmaxd = 0;
  uint16_t nsetidmax = 0;
  uint16_t endgidmax = 0;
  uint8_t anatt = 0;
  uint8_t anacap = 0;
  uint32_t anagrpmax = 0;
  uint32_t nanagrpid = 0;
  uint32_t pels = 0;
  uint16_t domain_id = 0;
  uint8_t reserved358[10] = {};
  std::array<uint8_t, 16> megcap{};
  uint8_t reserved384[2] = {};
  uint16_t command_quiesce_ms = 0;  // CQT, NVMe Base 2.1
  uint8_t reserved388[124] = {};
  uint8_t sqes = 0;
  uint8_t cqes = 0;
  uint16_t max_commands = 0;     // MAXCMD
  uint32_t namespace_count = 0;  // NN
  uint16_t oncs = 0;
  uint16_t fuses = 0;
  uint8_t fna = 0;
  uint8_t vwc = 0;
  uint16_t awun = 0;
  uint16_t awupf = 0;
  uint8_t icsvscc = 0;
  uint8_t nwpc = 0;
  uint16_t acwu = 0;
  uint16_t cdfs = 0;
  uint32_t sgls = 0;
  uint32_t max_allowed_namespaces = 0;  // MNAN
  uint8_t reserved544[224] = {};
  std::array<char, 256> subsystem_nqn{};  // NUL-terminated
  uint8_t reserved1024[768] = {};
  uint32_t ioccsz = 0;  // I/O queue command capsule size, units of 16 bytes
  uint32_t iorcsz = 0;  // I/O queue response capsule size, units of 16 bytes
  uint16_t icdoff = 0;  // in-capsule data offset, units of 16 bytes
  uint8_t fcatt = 0;
  uint8_t msdbd = 0;  // maximum number of SGL data block descriptors
  uint16_t ofcs = 0;
  uint8_t dctype = 0;
  uint8_t reserved1807[241] = {};
  std::array<uint8_t, 1024> power_states{};
  std::array<uint8_t, 1024> vendor_specific{};
};
static_assert(sizeof(IdentifyController) == kIdentifySize);
static_assert(offsetof(IdentifyController, mdts) == 77);
static_assert(offsetof(IdentifyController, controller_type) == 111);
static_assert(offsetof(IdentifyController, oacs) == 256);
static_assert(offsetof(IdentifyController, keep_alive_100ms) == 320);
static_assert(offsetof(IdentifyController, command_quiesce_ms) == 386);
static_assert(offsetof(IdentifyController, sqes) == 512);
static_assert(offsetof(IdentifyController, sgls) == 536);
static_assert(offsetof(IdentifyController, subsystem_nqn) == 768);
static_assert(offsetof(IdentifyController, ioccsz) == 1792);
static_assert(offsetof(IdentifyController, dctype) == 1806);
static_assert(offsetof(IdentifyController, power_states) == 2048);

inline constexpr uint8_t kCmicMultiplePorts = 1u << 0;
inline constexpr uint8_t kCmicMultipleControllers = 1u << 1;
inline constexpr uint8_t kCmicAnaReporting = 1u << 3;
inline constexpr uint32_t kOaesNamespaceAttributes = 1u << 8;
inline constexpr uint32_t kOaesAnaChange = 1u << 11;
inline constexpr uint32_t kOaesDiscoveryLogChange = 1u << 31;
inline constexpr uint32_t kCtrattHostId128Bit = 1u << 0;
inline constexpr uint32_t kCtrattTrafficBasedKeepAlive = 1u << 6;
inline constexpr uint8_t kLpaSmartPerNamespace = 1u << 0;
inline constexpr uint8_t kLpaCommandsEffects = 1u << 1;
inline constexpr uint8_t kLpaExtendedData =
    1u << 2;  // Get Log Page supports an offset and a 32-bit length
inline constexpr uint16_t kOacsDoorbellBufferConfig = 1u << 8;
inline constexpr uint16_t kOncsCompare = 1u << 0;
inline constexpr uint16_t kOncsDatasetManagement = 1u << 2;
inline constexpr uint16_t kOncsWriteZeroes = 1u << 3;
inline constexpr uint16_t kOncsFeatureSave = 1u << 4;
inline constexpr uint16_t kOncsReservations = 1u << 5;
inline constexpr uint16_t kOncsTimestamp = 1u << 6;
inline constexpr uint16_t kOncsVerify = 1u << 7;
inline constexpr uint16_t kFusesCompareAndWrite = 1u << 0;
inline constexpr uint8_t kVwcPresent = 1u << 0;
inline constexpr uint8_t kVwcNoFlushAll = 2u << 1;  // Flush with the broadcast NSID fails
inline constexpr uint8_t kVwcFlushAll = 3u << 1;
inline constexpr uint32_t kSglsSupported = 1u << 0;
inline constexpr uint32_t kSglsKeyedDataBlock = 1u << 2;
inline constexpr uint32_t kSglsInCapsuleOffset = 1u << 20;
inline constexpr uint32_t kSglsTransportDataBlock = 1u << 21;

}  // namespace sma::storage_target::nvme
