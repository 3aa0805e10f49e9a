// SPDX-License-Identifier: Apache-2.0

// Fuzzes the parsers of Identify data and discovery log entries that come from a remote system.

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "storage_target/bdev_modules/nvme/initiator/discovery_log.h"
#include "storage_target/bdev_modules/nvme/initiator/identity.h"

namespace {

using namespace sma::storage_target;

// Returns a structure that starts with `bytes`; the rest is zero.
template <typename T>
T Fill(std::span<const uint8_t> bytes) {
  T value{};
  std::memcpy(static_cast<void*>(&value), bytes.data(), std::min(bytes.size(), sizeof value));
  return value;
}

void Require(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  const std::span<const uint8_t> input(bytes, size);
  auto controller =
      initiator::ParseController(Fill<nvme::IdentifyController>(input), Fill<uint64_t>(input), 0);
  Require(controller.max_queue_entries >= 2 && controller.max_transfer_bytes >= 4096);
  initiator::ApplyNvmLimits(Fill<nvme::NvmIdentifyController>(input), Fill<uint64_t>(input),
                            controller);
  Require(controller.max_write_zeroes_bytes >= 4096 && controller.max_unmap_range_blocks > 0);

  if (auto info = initiator::ParseNamespace(1, Fill<nvme::IdentifyNamespace>(input))) {
    Require(info->block_size >= 512 && info->block_size <= 65536 && info->block_count > 0);
  }
  initiator::NamespaceInfo info;
  initiator::ApplyDescriptors(std::as_bytes(input), info);

  uint32_t last = 0;
  for (uint32_t nsid : initiator::ParseNamespaceList(Fill<nvme::NamespaceList>(input), 0)) {
    Require(nsid > last);
    last = nsid;
  }
  if (auto entry = initiator::ParseDiscoveryEntry(Fill<nvme::DiscoveryLogEntry>(input))) {
    Require(entry->address.port != 0 && !entry->subnqn.empty());
  }
  return 0;
}
