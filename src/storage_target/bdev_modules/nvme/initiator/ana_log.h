// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>

#include "storage_target/nvme/log_page.h"

namespace sma::storage_target::initiator {

/// The states of a controller's ANA groups, by group identifier.
using AnaGroups = std::map<uint32_t, nvme::AnaState>;

/// Parses an Asymmetric Namespace Access log page (NVMe Base 2.0 §5.16.1.13) from a remote side.
/// Stops at the first incomplete descriptor. An undefined state counts as inaccessible.
AnaGroups ParseAnaLog(std::span<const std::byte> log);

/// Returns the size in bytes of a log page with `group_count` descriptors and without NSIDs.
size_t AnaLogSize(uint32_t group_count);

}  // namespace sma::storage_target::initiator
