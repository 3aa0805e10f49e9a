// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/nvme/initiator/identity.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "storage_target/nvme/command.h"
#include "storage_target/nvme/nqn.h"
#include "storage_target/nvme/property.h"

namespace sma::storage_target::initiator {
namespace {

constexpr uint32_t kCommandBytes = sizeof(nvme::Command);
// The limit of a queue pair: CIDs and SQSIZE have 16 bits, and memory is reserved for each entry.
constexpr uint32_t kMaxQueueEntries = 4096;
// Used if the controller reports no limit, or one that exceeds the range of a PDU's length.
constexpr uint64_t kMaxTransferBytes = 1 << 20;
constexpr uint32_t kPageShift = 12;  // for CAP.MPSMIN 0
constexpr uint32_t kMaxAnaGroups = 1024;
constexpr uint32_t kMinBlockShift = 9;
constexpr uint32_t kMaxBlockShift = 16;

// Converts a field to text for JSON and messages: everything except printable ASCII is replaced by
// '?'.
template <size_t N>
std::string PrintableText(const std::array<char, N>& field) {
  std::string text(nvme::Unpadded(field));
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return text;
}

bool AllZero(std::span<const uint8_t> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](uint8_t byte) { return byte == 0; });
}

// Returns a UUID whose low half is the EUI64 and whose high half is zero.
base::Uuid UuidFromEui64(std::span<const uint8_t> eui64) {
  std::array<uint8_t, base::Uuid::kSize> bytes{};
  std::copy(eui64.begin(), eui64.end(), bytes.end() - 8);
  return base::Uuid(bytes);
}

base::Uuid UuidFromBytes(std::span<const std::byte> from) {
  std::array<uint8_t, base::Uuid::kSize> bytes;
  std::memcpy(bytes.data(), from.data(), bytes.size());
  return base::Uuid(bytes);
}

uint64_t MaxTransferBytes(uint8_t mdts, uint32_t min_page_shift) {
  uint32_t shift = kPageShift + min_page_shift + mdts;
  if (mdts == 0 || shift >= 20) return kMaxTransferBytes;
  return uint64_t{1} << shift;
}

}  // namespace

ControllerInfo ParseController(const nvme::IdentifyController& data, uint64_t cap,
                               uint32_t version) {
  ControllerInfo info;
  info.controller_id = data.controller_id;
  info.vendor_id = data.vendor_id;
  info.serial_number = PrintableText(data.serial_number);
  info.model_number = PrintableText(data.model_number);
  info.firmware_revision = PrintableText(data.firmware_revision);
  info.subnqn = PrintableText(data.subsystem_nqn);
  info.version = version;
  info.type = data.controller_type;
  info.max_queue_entries = static_cast<uint16_t>(
      std::clamp(nvme::CapMaxQueueEntries(cap), uint32_t{2}, kMaxQueueEntries));
  uint64_t capsule_bytes = uint64_t{data.ioccsz} * 16;
  if (capsule_bytes > kCommandBytes && data.icdoff == 0) {
    info.in_capsule_bytes =
        static_cast<uint32_t>(std::min<uint64_t>(capsule_bytes - kCommandBytes, kMaxTransferBytes));
  }
  info.max_transfer_bytes = MaxTransferBytes(data.mdts, nvme::CapMinPageShift(cap));
  info.max_write_zeroes_bytes = info.max_transfer_bytes;
  info.max_unmap_range_blocks = UINT32_MAX;
  info.oacs = data.oacs;
  info.oncs = data.oncs;
  info.oaes = data.oaes;
  info.cmic = data.cmic;
  if ((data.cmic & nvme::kCmicAnaReporting) != 0) {
    info.ana_group_count = std::clamp(data.nanagrpid, uint32_t{1}, kMaxAnaGroups);
  }
  info.keep_alive_granularity_ms = data.keep_alive_100ms * 100u;
  info.command_quiesce_ms = data.command_quiesce_ms;
  info.abort_limit = static_cast<uint16_t>(data.abort_limit + 1);
  for (size_t i = 0; i < data.crdt.size(); ++i) {
    info.retry_delays[i + 1] = std::chrono::milliseconds(data.crdt[i] * 100);
  }
  info.write_cache = (data.vwc & nvme::kVwcPresent) != 0;
  return info;
}

void ApplyNvmLimits(const nvme::NvmIdentifyController& data, uint64_t cap, ControllerInfo& info) {
  uint32_t shift = kPageShift + nvme::CapMinPageShift(cap) + data.write_zeroes_limit;
  bool unlimited = data.write_zeroes_limit == 0 || shift > 40;
  info.max_write_zeroes_bytes = unlimited ? UINT64_MAX : uint64_t{1} << shift;
  for (uint64_t limit : {uint64_t{data.dsm_range_size_limit}, data.dsm_size_limit}) {
    if (limit != 0) info.max_unmap_range_blocks = std::min(info.max_unmap_range_blocks, limit);
  }
}

std::optional<NamespaceInfo> ParseNamespace(uint32_t nsid, const nvme::IdentifyNamespace& data) {
  const nvme::LbaFormat& format = data.lba_format();
  bool usable = data.nsze > 0 && format.metadata_size == 0 &&
                format.block_shift >= kMinBlockShift && format.block_shift <= kMaxBlockShift &&
                data.nsze <= UINT64_MAX >> format.block_shift;
  if (!usable) return std::nullopt;
  NamespaceInfo info;
  info.nsid = nsid;
  if (!AllZero(data.nguid)) {
    info.uuid = base::Uuid(data.nguid);
  } else if (!AllZero(data.eui64)) {
    info.uuid = UuidFromEui64(data.eui64);
  }
  info.nguid = data.nguid;
  info.eui64 = data.eui64;
  info.ana_group = data.anagrpid;
  info.block_size = 1u << format.block_shift;
  info.block_count = data.nsze;
  info.shared = (data.nmic & nvme::kNmicShared) != 0;
  info.write_protected = (data.nsattr & nvme::kNsattrWriteProtected) != 0;
  info.reads_zeroes_after_unmap = (data.dlfeat & 7) == nvme::kDlfeatReadsZeroes;
  if ((data.nsfeat & nvme::kNsfeatOptimalPerformance) != 0) {
    // All of these fields are 0's based.
    info.write_granularity = data.npwg + 1u;
    info.write_alignment = data.npwa + 1u;
    info.unmap_granularity = data.npdg + 1u;
    info.unmap_alignment = data.npda + 1u;
    info.optimal_write_size = data.nows + 1u;
  }
  return info;
}

void ApplyDescriptors(std::span<const std::byte> list, NamespaceInfo& info) {
  while (list.size() >= sizeof(nvme::NamespaceDescriptor)) {
    nvme::NamespaceDescriptor header;
    std::memcpy(&header, list.data(), sizeof header);
    list = list.subspan(sizeof header);
    if (header.length == 0 || header.length > list.size()) return;
    if (header.type == nvme::NamespaceIdType::kUuid && header.length == base::Uuid::kSize) {
      if (base::Uuid uuid = UuidFromBytes(list); !uuid.is_nil()) info.uuid = uuid;
    }
    list = list.subspan(header.length);
  }
}

std::vector<uint32_t> ParseNamespaceList(const nvme::NamespaceList& list, uint32_t after) {
  std::vector<uint32_t> nsids;
  for (uint32_t nsid : list) {
    if (nsid <= after || nsid >= nvme::kBroadcastNsid - 1) break;
    nsids.push_back(nsid);
    after = nsid;
  }
  return nsids;
}

}  // namespace sma::storage_target::initiator
