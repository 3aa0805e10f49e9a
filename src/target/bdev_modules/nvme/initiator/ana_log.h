#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>

#include "target/nvme/log_page.h"

namespace sma::target::initiator {

/// The states of a controller's ANA groups, by group identifier.
using AnaGroups = std::map<uint32_t, nvme::AnaState>;

/// From an Asymmetric Namespace Access log page (NVMe Base 2.0 §5.16.1.13), which comes from a
/// remote side. Ends at the first descriptor that is not complete. A state that is not defined
/// counts as inaccessible.
AnaGroups ParseAnaLog(std::span<const std::byte> log);

/// Size in bytes of a log page with `group_count` descriptors and no NSIDs.
size_t AnaLogSize(uint32_t group_count);

}  // namespace sma::target::initiator
