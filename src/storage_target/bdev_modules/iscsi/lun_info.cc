// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/iscsi/lun_info.h"

#include <algorithm>
#include <array>

#include "base/hex.h"

namespace sma::storage_target::bdev_iscsi {
namespace {

// The namespace UUID for the version 5 UUIDs of logical units.
constexpr base::Uuid kNameSpace({0x5b, 0x1d, 0x0e, 0x6c, 0x8f, 0x0a, 0x4c, 0x3e, 0x9a, 0x57, 0x2e,
                                 0xc1, 0x74, 0x0d, 0x93, 0xb8});

template <typename T>
T BigEndian(Bytes data, size_t offset) {
  T value = 0;
  for (size_t i = 0; i < sizeof(T); ++i) value = static_cast<T>(value << 8 | data[offset + i]);
  return value;
}

// Returns the part of a vital product data page that is covered by the page length and the received
// bytes; returns nothing if `data` is a different page.
Bytes PageOf(uint8_t code, Bytes data) {
  constexpr size_t kHeaderBytes = 4;
  if (data.size() < kHeaderBytes || data[1] != code) return {};
  size_t length = kHeaderBytes + BigEndian<uint16_t>(data, 2);
  return data.first(std::min(length, data.size()));
}

constexpr uint8_t kLocallyAssigned = 3;  // an NAA format, often little more than the LUN

// Returns how well a designator is suited as the unit's identifier; 0 if it is unsuitable (SPC-4
// table 531).
int RankOf(uint8_t type, Bytes designator) {
  switch (type) {
    case 0x0a:  // UUID
      return 7;
    case 0x03:  // NAA
      return designator[0] >> 4 == kLocallyAssigned ? 2 : 6;
    case 0x02:  // EUI-64
      return 5;
    case 0x08:  // SCSI name string
      return 4;
    case 0x01:  // T10 vendor ID
      return 3;
    case 0x00:  // vendor specific
      return 1;
    default:
      return 0;
  }
}

// Returns true if a designator, with the type as its first byte, is unique worldwide. Targets
// without a vendor identifier (tgt, for example) give units on different hosts the same T10 vendor
// ID and locally assigned NAA designators.
bool IsWorldwide(std::string_view identity) {
  if (identity.size() < 2) return false;
  switch (identity[0]) {
    case 0x0a:  // UUID
    case 0x02:  // EUI-64
      return true;
    case 0x03:  // NAA
      return static_cast<uint8_t>(identity[1]) >> 4 != kLocallyAssigned;
    default:
      return false;
  }
}

}  // namespace

bool IsDisk(Bytes data) {
  // 0 means that a unit is connected (the peripheral qualifier) and that it is a disk (the device
  // type).
  return !data.empty() && data[0] == 0;
}

std::optional<Capacity> Capacity::Parse(Bytes data) {
  constexpr size_t kNeededBytes = 15;
  if (data.size() < kNeededBytes) return std::nullopt;
  auto last_lba = BigEndian<uint64_t>(data, 0);
  auto block_size = BigEndian<uint32_t>(data, 8);
  if (last_lba == UINT64_MAX || block_size == 0) return std::nullopt;
  return Capacity{.block_count = last_lba + 1,
                  .block_size = block_size,
                  .provisioned_thinly = (data[14] & 0x80) != 0};
}

BlockLimits BlockLimits::Parse(Bytes data) {
  Bytes page = PageOf(kPageBlockLimits, data);
  BlockLimits limits;
  if (page.size() >= 16) {
    limits.max_transfer = BigEndian<uint32_t>(page, 8);
    limits.optimal_transfer = BigEndian<uint32_t>(page, 12);
  }
  if (page.size() >= 44) {
    limits.max_unmap = BigEndian<uint32_t>(page, 20);
    limits.optimal_unmap = BigEndian<uint32_t>(page, 28);
    limits.max_write_same = BigEndian<uint64_t>(page, 36);
  }
  return limits;
}

Provisioning Provisioning::Parse(Bytes data) {
  Bytes page = PageOf(kPageProvisioning, data);
  if (page.size() < 6) return {};
  return {.unmap = (page[5] & 0x80) != 0, .unmap_reads_zero = (page[5] & 0x04) != 0};
}

std::string ParseIdentity(Bytes data) {
  constexpr size_t kDesignatorHeader = 4;
  Bytes page = PageOf(kPageIdentification, data);
  std::string best;
  int best_rank = 0;
  for (size_t at = 4; at + kDesignatorHeader <= page.size();) {
    size_t length = page[at + 3];
    if (length > page.size() - at - kDesignatorHeader) break;
    uint8_t association = page[at + 1] >> 4 & 0x3;
    uint8_t type = page[at + 1] & 0x0f;
    Bytes designator = page.subspan(at + kDesignatorHeader, length);
    int rank = association == 0 && length != 0 ? RankOf(type, designator) : 0;
    if (rank > best_rank) {
      best_rank = rank;
      best.assign(1, static_cast<char>(type));
      best.append(designator.begin(), designator.end());
    }
    at += kDesignatorHeader + length;
  }
  return best;
}

bool IsWriteProtected(Bytes data) {
  constexpr uint8_t kWriteProtect = 0x80;  // a bit of the device-specific parameter
  return data.size() > 2 && (data[2] & kWriteProtect) != 0;
}

std::string LunInfo::MakeMedium(std::string_view target, int lun) const {
  if (!IsWorldwide(identity)) return "iscsi:" + MakeUuid(target, lun).ToString();
  return "iscsi:" + base::HexEncode(identity);
}

base::Uuid LunInfo::MakeUuid(std::string_view target, int lun) const {
  std::string name(target);
  name += '\0';
  name += identity.empty() ? "lun" + std::to_string(lun) : identity;
  return base::Uuid::FromName(kNameSpace, name);
}

}  // namespace sma::storage_target::bdev_iscsi
