// SPDX-License-Identifier: Apache-2.0

#include "agent/volume/connection_names.h"

#include <fmt/format.h>

namespace sma::volume {
namespace {

constexpr std::string_view kPrefix = "sma_";
constexpr size_t kUuidSize = 36;

std::string_view WithoutDigits(std::string_view text) {
  const size_t last = text.find_last_not_of("0123456789");
  return last == std::string_view::npos ? std::string_view() : text.substr(0, last + 1);
}

}  // namespace

// The target appends a number to a service's name to name its controllers; the final '_' separates
// the two.
std::string ServiceName(const spdk::TransportAddress& address, const base::Uuid& volume) {
  return ServiceKey(address) + volume.ToString() + "_";
}

std::string ServiceKey(const spdk::TransportAddress& address) {
  return fmt::format("{}{}_{}_{}_", kPrefix, address.trtype, address.traddr, address.trsvcid);
}

std::string ControllerName(std::string_view subnqn, const base::Uuid& volume) {
  return fmt::format("{}_{}", ControllerKey(subnqn), volume.ToString());
}

std::string ControllerKey(std::string_view subnqn) { return fmt::format("{}{}", kPrefix, subnqn); }

std::string_view KeyOf(std::string_view name) {
  const bool is_service = name.ends_with('_');
  const size_t end = name.size() - (is_service ? 1 : 0);
  if (end < kUuidSize + 1 || name[end - kUuidSize - 1] != '_') return name;
  const size_t begin = end - kUuidSize;
  if (!base::Uuid::Parse(name.substr(begin, kUuidSize))) return name;
  return name.substr(0, is_service ? begin : begin - 1);
}

std::optional<std::string> ControllerOfBdev(std::string_view bdev_name) {
  std::string_view name = WithoutDigits(bdev_name);
  if (name.size() == bdev_name.size() || !name.ends_with('n')) return std::nullopt;
  name.remove_suffix(1);
  if (name.empty()) return std::nullopt;
  return std::string(name);
}

std::optional<std::string> ServiceOfController(std::string_view controller_name) {
  const std::string_view name = WithoutDigits(controller_name);
  if (name.size() == controller_name.size() || !HasAgentsForm(name) || !name.ends_with('_')) {
    return std::nullopt;
  }
  return std::string(name);
}

bool IsControllerOf(std::string_view controller_name, std::string_view service) {
  if (!controller_name.starts_with(service)) return false;
  const std::string_view number = controller_name.substr(service.size());
  return !number.empty() && number.find_first_not_of("0123456789") == std::string_view::npos;
}

bool HasAgentsForm(std::string_view name) { return name.starts_with(kPrefix); }

}  // namespace sma::volume
