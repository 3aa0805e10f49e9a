// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstddef>
#include <cstdint>

/// Wire structures of the vfio-user protocol, version 0.x (QEMU, "vfio-user Protocol
/// Specification"). They are read and written with memcpy; fields are in native byte order. Flags
/// and indices of regions and interrupts are those of <linux/vfio.h>.
namespace sma::storage_target::vfio_user {

inline constexpr uint16_t kMajorVersion = 0;
inline constexpr uint16_t kMinorVersion = 1;

enum class Command : uint16_t {
  kVersion = 1,
  kDmaMap = 2,
  kDmaUnmap = 3,
  kDeviceGetInfo = 4,
  kDeviceGetRegionInfo = 5,
  kDeviceGetRegionIoFds = 6,
  kDeviceGetIrqInfo = 7,
  kDeviceSetIrqs = 8,
  kRegionRead = 9,
  kRegionWrite = 10,
  kDmaRead = 11,   // server to client
  kDmaWrite = 12,  // server to client
  kDeviceReset = 13,
  kRegionWriteMulti = 15,
};

/// Header::flags.
inline constexpr uint32_t kTypeMask = 0xf;
inline constexpr uint32_t kTypeCommand = 0;
inline constexpr uint32_t kTypeReply = 1;
inline constexpr uint32_t kNoReply = 1u << 4;
inline constexpr uint32_t kError = 1u << 5;

struct Header {
  uint16_t message_id = 0;
  Command command = Command::kVersion;
  uint32_t message_bytes = 0;  // header and payload
  uint32_t flags = 0;
  uint32_t error = 0;  // errno value of a reply with kError
};
static_assert(sizeof(Header) == 16);

/// Followed by JSON text that ends in NUL.
struct Version {
  uint16_t major_number = kMajorVersion;
  uint16_t minor_number = kMinorVersion;
};
static_assert(sizeof(Version) == 4);

struct DmaMapRequest {
  uint32_t argsz = sizeof(DmaMapRequest);
  uint32_t flags = 0;
  uint64_t offset_bytes = 0;  // into the file whose descriptor is passed
  uint64_t address = 0;
  uint64_t size_bytes = 0;
};
static_assert(sizeof(DmaMapRequest) == 32);
inline constexpr uint32_t kDmaReadable = 1u << 0;
inline constexpr uint32_t kDmaWritable = 1u << 1;

struct DmaUnmapRequest {
  uint32_t argsz = sizeof(DmaUnmapRequest);
  uint32_t flags = 0;
  uint64_t address = 0;
  uint64_t size_bytes = 0;
};
static_assert(sizeof(DmaUnmapRequest) == 24);

struct DeviceInfo {
  uint32_t argsz = sizeof(DeviceInfo);
  uint32_t flags = 0;
  uint32_t region_count = 0;
  uint32_t irq_count = 0;
};
static_assert(sizeof(DeviceInfo) == 16);

struct RegionInfo {
  uint32_t argsz = sizeof(RegionInfo);
  uint32_t flags = 0;
  uint32_t index = 0;
  uint32_t cap_offset = 0;
  uint64_t size_bytes = 0;
  uint64_t offset_bytes = 0;  // for mmap(2)
};
static_assert(sizeof(RegionInfo) == 32);

/// A capability of a region with one area that may be mapped (struct
/// vfio_region_info_cap_sparse_mmap).
struct SparseMmap {
  uint16_t id = 1;
  uint16_t version = 1;
  uint32_t next = 0;
  uint32_t area_count = 1;
  uint32_t reserved = 0;
  uint64_t offset_bytes = 0;
  uint64_t size_bytes = 0;
};
static_assert(sizeof(SparseMmap) == 32);

struct IrqInfo {
  uint32_t argsz = sizeof(IrqInfo);
  uint32_t flags = 0;
  uint32_t index = 0;
  uint32_t count = 0;
};
static_assert(sizeof(IrqInfo) == 16);

/// With VFIO_IRQ_SET_DATA_BOOL, followed by `count` one-byte booleans.
struct IrqSet {
  uint32_t argsz = sizeof(IrqSet);
  uint32_t flags = 0;
  uint32_t index = 0;
  uint32_t start = 0;
  uint32_t count = 0;
};
static_assert(sizeof(IrqSet) == 20);

/// The header of kRegionRead and kRegionWrite; data follows in the reply or in the request,
/// respectively.
struct RegionAccess {
  uint64_t offset_bytes = 0;
  uint32_t region = 0;
  uint32_t count = 0;
};
static_assert(sizeof(RegionAccess) == 16);

/// One write of kRegionWriteMulti, whose payload begins with the number of writes as 8 bytes.
struct SmallWrite {
  RegionAccess access;
  uint8_t data[8] = {};
};
static_assert(sizeof(SmallWrite) == 24);

/// The header of kDmaRead and kDmaWrite; data follows in the reply or in the request, respectively.
struct DmaAccess {
  uint64_t address = 0;
  uint64_t count = 0;
};
static_assert(sizeof(DmaAccess) == 16);

}  // namespace sma::storage_target::vfio_user
