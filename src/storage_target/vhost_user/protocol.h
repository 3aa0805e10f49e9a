// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

// Messages of the vhost-user protocol, named as in its specification (QEMU's
// docs/interop/vhost-user.rst). All fields are in native byte order.

namespace sma::storage_target::vhost_user {

/// "Front-end message types" of the specification.
enum class Request : uint32_t {
  kGetFeatures = 1,
  kSetFeatures = 2,
  kSetOwner = 3,
  kResetOwner = 4,
  kSetMemTable = 5,
  kSetLogBase = 6,
  kSetLogFd = 7,
  kSetVringNum = 8,
  kSetVringAddr = 9,
  kSetVringBase = 10,
  kGetVringBase = 11,
  kSetVringKick = 12,
  kSetVringCall = 13,
  kSetVringErr = 14,
  kGetProtocolFeatures = 15,
  kSetProtocolFeatures = 16,
  kGetQueueNum = 17,
  kSetVringEnable = 18,
  kSetBackendReqFd = 21,
  kGetConfig = 24,
  kSetConfig = 25,
  kGetInflightFd = 31,
  kSetInflightFd = 32,
  kResetDevice = 34,
  kGetMaxMemSlots = 36,
  kAddMemReg = 37,
  kRemMemReg = 38,
};

/// "Back-end message types" of the specification.
enum class BackendRequest : uint32_t { kConfigChange = 2 };

/// The feature bit VHOST_USER_F_PROTOCOL_FEATURES.
inline constexpr unsigned kFeatureProtocolFeatures = 30;

/// "Protocol features", by bit number.
enum class ProtocolFeature : unsigned {
  kMq = 0,
  kReplyAck = 3,
  kBackendReq = 5,
  kConfig = 9,
  kInflightShmfd = 12,
  kResetDevice = 13,
  kConfigureMemSlots = 15,
};

constexpr uint64_t Bit(unsigned number) { return uint64_t{1} << number; }
constexpr uint64_t Bit(ProtocolFeature feature) { return Bit(static_cast<unsigned>(feature)); }

struct Header {
  static constexpr uint32_t kVersionMask = 3;
  static constexpr uint32_t kVersion = 1;
  static constexpr uint32_t kReply = 1 << 2;
  static constexpr uint32_t kNeedReply = 1 << 3;

  uint32_t request;
  uint32_t flags;
  uint32_t payload_bytes;
};
static_assert(sizeof(Header) == 12);

struct VringState {
  uint32_t index;
  uint32_t number;
};
static_assert(sizeof(VringState) == 8);

/// The payload of messages that carry a vring's eventfd: the vring's index, and a flag that
/// says that no descriptor is attached.
inline constexpr uint64_t kVringIndexMask = 0xff;
inline constexpr uint64_t kVringNoFd = 1 << 8;

struct VringAddr {
  uint32_t index;
  uint32_t flags;
  uint64_t descriptors;  // user addresses
  uint64_t used;
  uint64_t available;
  uint64_t log;
};
static_assert(sizeof(VringAddr) == 40);

struct MemoryRegionDescription {
  uint64_t guest_address;
  uint64_t size_bytes;
  uint64_t user_address;
  uint64_t mmap_offset;
};
static_assert(sizeof(MemoryRegionDescription) == 32);

/// "Memory regions description"; as many regions as a message can have descriptors.
inline constexpr size_t kMaxTableRegions = 8;
struct MemoryTable {
  uint32_t region_count;
  uint32_t padding;
  std::array<MemoryRegionDescription, kMaxTableRegions> regions;
};
inline constexpr size_t kMemoryTableHeaderBytes = offsetof(MemoryTable, regions);

/// "Single memory region description".
struct SingleMemoryRegion {
  uint64_t padding;
  MemoryRegionDescription region;
};
static_assert(sizeof(SingleMemoryRegion) == 40);

/// "Virtio device config space".
inline constexpr size_t kMaxConfigBytes = 256;
struct ConfigSpace {
  uint32_t offset;
  uint32_t size_bytes;
  uint32_t flags;
  std::array<std::byte, kMaxConfigBytes> bytes;
};
inline constexpr size_t kConfigHeaderBytes = offsetof(ConfigSpace, bytes);
static_assert(kConfigHeaderBytes == 12);

/// "Inflight description". Some front ends send the padding and others do not.
struct InflightDescription {
  uint64_t mmap_bytes;
  uint64_t mmap_offset;
  uint16_t queue_count;
  uint16_t queue_size;
  uint32_t padding;
};
inline constexpr size_t kInflightMinBytes = offsetof(InflightDescription, padding);
static_assert(sizeof(InflightDescription) == 24);

}  // namespace sma::storage_target::vhost_user
