// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/nvme/initiator/ana_log.h"

#include <cstring>

namespace sma::storage_target::initiator {
namespace {

nvme::AnaState StateOf(uint8_t field) {
  auto state = static_cast<nvme::AnaState>(field & 0xf);
  switch (state) {
    case nvme::AnaState::kOptimized:
    case nvme::AnaState::kNonOptimized:
    case nvme::AnaState::kInaccessible:
    case nvme::AnaState::kPersistentLoss:
    case nvme::AnaState::kChange:
      return state;
  }
  return nvme::AnaState::kInaccessible;
}

}  // namespace

AnaGroups ParseAnaLog(std::span<const std::byte> log) {
  AnaGroups groups;
  nvme::AnaLogHeader header;
  if (log.size() < sizeof header) return groups;
  std::memcpy(&header, log.data(), sizeof header);
  log = log.subspan(sizeof header);
  for (uint16_t i = 0; i < header.group_count; ++i) {
    nvme::AnaGroupDescriptor group;
    if (log.size() < sizeof group) break;
    std::memcpy(&group, log.data(), sizeof group);
    log = log.subspan(sizeof group);
    groups[group.group_id] = StateOf(group.state);
    // A controller without support for "groups only" also sends the NSIDs.
    if (group.nsid_count > log.size() / sizeof(uint32_t)) break;
    log = log.subspan(group.nsid_count * sizeof(uint32_t));
  }
  return groups;
}

size_t AnaLogSize(uint32_t group_count) {
  return sizeof(nvme::AnaLogHeader) + group_count * sizeof(nvme::AnaGroupDescriptor);
}

}  // namespace sma::storage_target::initiator
