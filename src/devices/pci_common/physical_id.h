// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sma::pci_common {

/// Returns `prefix` followed by the decimal number: the name of a device's objects.
std::string NameOf(std::string_view prefix, uint32_t physical_id);

/// Returns the number in a name created by NameOf; nullopt for any other text, including numbers
/// with a sign or leading zeros.
std::optional<uint32_t> PhysicalIdOf(std::string_view prefix, std::string_view name);

}  // namespace sma::pci_common
