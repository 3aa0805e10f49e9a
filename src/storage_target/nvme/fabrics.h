// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "storage_target/nvme/command.h"

namespace sma::storage_target::nvme {

/// FCTYPE of a Fabrics command (NVMe Base 2.0 §6); bits 1:0 are the direction of its data.
enum class FabricsType : uint8_t {
  kPropertySet = 0x00,
  kConnect = 0x01,
  kPropertyGet = 0x04,
  kAuthenticationSend = 0x05,
  kAuthenticationReceive = 0x06,
  kDisconnect = 0x08,
};
constexpr FabricsType FabricsTypeOf(const Command& command) {
  return static_cast<FabricsType>(command.nsid & 0xff);
}

/// Fabrics commands have the layouts below; convert from and to Command with std::bit_cast.
struct ConnectCommand {
  uint8_t opcode = static_cast<uint8_t>(AdminOpcode::kFabrics);
  uint8_t flags = kPsdtSgl;
  uint16_t cid = 0;
  FabricsType type = FabricsType::kConnect;
  uint8_t reserved1[19] = {};
  Sgl sgl;
  uint16_t record_format = 0;
  uint16_t queue_id = 0;
  uint16_t sq_size = 0;    // entries, 0's based
  uint8_t attributes = 0;  // CATTR
  uint8_t reserved2 = 0;
  uint32_t keep_alive_ms = 0;
  uint8_t reserved3[12] = {};
};
static_assert(sizeof(ConnectCommand) == sizeof(Command));
static_assert(offsetof(ConnectCommand, record_format) == 40 &&
              offsetof(ConnectCommand, keep_alive_ms) == 48);
/// CATTR bit 2: the host requests that SQ flow control is disabled.
inline constexpr uint8_t kConnectDisableSqFlowControl = 1u << 2;

/// The data of a Connect command, NVMe Base 2.0 §6.3.
struct ConnectData {
  std::array<uint8_t, 16> host_id{};
  uint16_t controller_id = kAnyControllerId;
  uint8_t reserved1[238] = {};
  std::array<char, 256> subsystem_nqn{};  // NUL-terminated
  std::array<char, 256> host_nqn{};
  uint8_t reserved2[256] = {};

  static constexpr uint16_t kAnyControllerId = 0xffff;        // dynamic controller model
  static constexpr uint16_t kAnyStaticControllerId = 0xfffe;  // static controller model
};
static_assert(sizeof(ConnectData) == 1024);
static_assert(offsetof(ConnectData, subsystem_nqn) == 256 &&
              offsetof(ConnectData, host_nqn) == 512);

/// Completion dword 0 of a successful Connect: the controller ID in bits 15:0, AUTHREQ above.
constexpr uint16_t ConnectControllerId(uint32_t dw0) { return static_cast<uint16_t>(dw0); }

/// Completion dword 0 of kConnectInvalidParameters: IPO, the offset of the invalid field, and
/// IATTR, which says whether the field is in the data or in the command.
constexpr uint32_t InvalidConnectData(size_t offset) {
  return 1u << 16 | static_cast<uint32_t>(offset);
}
constexpr uint32_t InvalidConnectCommand(size_t offset) { return static_cast<uint32_t>(offset); }

struct PropertyCommand {
  uint8_t opcode = static_cast<uint8_t>(AdminOpcode::kFabrics);
  uint8_t flags = kPsdtSgl;
  uint16_t cid = 0;
  FabricsType type = FabricsType::kPropertyGet;
  uint8_t reserved1[35] = {};
  uint8_t attributes = 0;  // bits 2:0: kPropertySize4 or kPropertySize8
  uint8_t reserved2[3] = {};
  uint32_t offset = 0;  // a value of Property
  uint64_t value = 0;   // for Property Set
  uint8_t reserved3[8] = {};
};
static_assert(sizeof(PropertyCommand) == sizeof(Command));
static_assert(offsetof(PropertyCommand, offset) == 44 && offsetof(PropertyCommand, value) == 48);
inline constexpr uint8_t kPropertySizeMask = 0x7;
inline constexpr uint8_t kPropertySize4 = 0;
inline constexpr uint8_t kPropertySize8 = 1;

struct DisconnectCommand {
  uint8_t opcode = static_cast<uint8_t>(AdminOpcode::kFabrics);
  uint8_t flags = kPsdtSgl;
  uint16_t cid = 0;
  FabricsType type = FabricsType::kDisconnect;
  uint8_t reserved1[35] = {};
  uint16_t record_format = 0;
  uint8_t reserved2[22] = {};
};
static_assert(sizeof(DisconnectCommand) == sizeof(Command));
static_assert(offsetof(DisconnectCommand, record_format) == 40);

inline constexpr char kDiscoveryNqn[] = "nqn.2014-08.org.nvmexpress.discovery";

/// Discovery log page entry, NVMe Base 2.0 §5.16.1.23.
enum class TransportType : uint8_t { kRdma = 1, kFibreChannel = 2, kTcp = 3, kIntraHost = 254 };
enum class AddressFamily : uint8_t {
  kNone = 0,
  kIpv4 = 1,
  kIpv6 = 2,
  kInfiniBand = 3,
  kFibreChannel = 4
};
enum class DiscoverySubtype : uint8_t { kReferral = 1, kNvm = 2, kCurrentDiscovery = 3 };
/// TREQ bits 1:0: secure channel; bit 2: SQ flow control may be disabled.
inline constexpr uint8_t kTreqSecureRequired = 1;
inline constexpr uint8_t kTreqSecureNotRequired = 2;
inline constexpr uint8_t kTreqDisableSqFlowControl = 1u << 2;
/// EFLAGS of the entry of a discovery controller.
inline constexpr uint16_t kEflagsDuplicateReturnedInformation = 1u << 0;
inline constexpr uint16_t kEflagsExplicitPersistentConnection = 1u << 1;

struct DiscoveryLogEntry {
  TransportType transport = TransportType::kTcp;
  AddressFamily family = AddressFamily::kNone;
  DiscoverySubtype subtype = DiscoverySubtype::kNvm;
  uint8_t requirements = 0;  // TREQ
  uint16_t port_id = 0;
  uint16_t controller_id = ConnectData::kAnyControllerId;
  uint16_t admin_sq_size = 0;  // entries
  uint16_t flags = 0;          // EFLAGS
  uint8_t reserved1[20] = {};
  std::array<char, 32> service_id{};  // TRSVCID, padded with spaces
  uint8_t reserved2[192] = {};
  std::array<char, 256> subsystem_nqn{};          // NUL-terminated
  std::array<char, 256> transport_address{};      // TRADDR, padded with spaces
  std::array<uint8_t, 256> transport_specific{};  // TSAS; for TCP byte 0 is SECTYPE
};
static_assert(sizeof(DiscoveryLogEntry) == 1024);
static_assert(offsetof(DiscoveryLogEntry, service_id) == 32);
static_assert(offsetof(DiscoveryLogEntry, subsystem_nqn) == 256);
static_assert(offsetof(DiscoveryLogEntry, transport_address) == 512);

struct DiscoveryLogHeader {
  uint64_t generation = 0;    // GENCTR
  uint64_t record_count = 0;  // NUMREC
  uint16_t record_format = 0;
  uint8_t reserved[1006] = {};
};
static_assert(sizeof(DiscoveryLogHeader) == 1024);

}  // namespace sma::storage_target::nvme
