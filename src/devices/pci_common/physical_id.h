#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sma::pci_common {

/// `prefix` and the number in decimal: the name of a device's objects.
std::string NameOf(std::string_view prefix, uint32_t physical_id);

/// The number in a name that NameOf gives; nullopt for any other text. A number has one form only:
/// no sign, no leading zeros.
std::optional<uint32_t> PhysicalIdOf(std::string_view prefix, std::string_view name);

}  // namespace sma::pci_common
