// SPDX-License-Identifier: Apache-2.0

#include "devices/pci_common/physical_id.h"

#include <charconv>

namespace sma::pci_common {

std::string NameOf(std::string_view prefix, uint32_t physical_id) {
  return std::string(prefix).append(std::to_string(physical_id));
}

std::optional<uint32_t> PhysicalIdOf(std::string_view prefix, std::string_view name) {
  if (!name.starts_with(prefix)) return std::nullopt;
  const std::string_view digits = name.substr(prefix.size());
  uint32_t physical_id = 0;
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), physical_id);
  if (error != std::errc() || NameOf(prefix, physical_id) != name) return std::nullopt;
  return physical_id;
}

}  // namespace sma::pci_common
