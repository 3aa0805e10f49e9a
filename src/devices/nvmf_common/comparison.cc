// SPDX-License-Identifier: Apache-2.0

#include "devices/nvmf_common/comparison.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/uuid.h"

namespace sma::nvmf_common {
namespace {

constexpr size_t kSerialNumberLength = 20;

template <typename List>
bool Contains(const List& list, const std::string& text) {
  return std::find(list.begin(), list.end(), text) != list.end();
}

// Returns true if the serial number may be one of NewSerialNumber, unlike SPDK's default, which
// consists of zeros.
bool IsUnique(std::string_view serial_number) {
  return serial_number.size() == kSerialNumberLength &&
         serial_number.find_first_not_of("0123456789abcdef") == std::string_view::npos &&
         serial_number.find_first_not_of(serial_number.front()) != std::string_view::npos;
}

}  // namespace

bool HasListener(const SubsystemSpec& spec, const spdk::Subsystem& subsystem) {
  return std::any_of(
      subsystem.listeners.begin(), subsystem.listeners.end(),
      [&](const spdk::TransportAddress& a) { return spdk::SameAddress(a, spec.listener); });
}

bool HasOnlyListener(const SubsystemSpec& spec, const spdk::Subsystem& subsystem) {
  return std::all_of(
      subsystem.listeners.begin(), subsystem.listeners.end(),
      [&](const spdk::TransportAddress& a) { return spdk::SameAddress(a, spec.listener); });
}

bool HasOnlyHosts(const SubsystemSpec& spec, const spdk::Subsystem& subsystem) {
  return std::all_of(subsystem.hosts.begin(), subsystem.hosts.end(),
                     [&](const std::string& host) { return Contains(spec.hosts, host); });
}

std::string DescribeAddress(const spdk::TransportAddress& address) {
  if (address.trsvcid.empty()) return address.traddr;
  return fmt::format("{} port {}", address.traddr, address.trsvcid);
}

spdk::Namespace NamespaceOf(const DeviceVolume& volume) {
  return {.bdev_name = volume.bdev_name, .uuid = volume.id, .nguid = volume.id};
}

const spdk::Namespace* NamespaceAt(const spdk::Subsystem& subsystem, uint32_t nsid) {
  for (const spdk::Namespace& ns : subsystem.namespaces) {
    if (ns.nsid == nsid) return &ns;
  }
  return nullptr;
}

const spdk::Namespace* FindNamespace(const spdk::Subsystem& subsystem, const base::Uuid& volume_id,
                                     std::string_view bdev_name) {
  for (const spdk::Namespace& ns : subsystem.namespaces) {
    if (ns.uuid == volume_id && ns.bdev_name == bdev_name) return &ns;
  }
  return nullptr;
}

const spdk::Namespace* FindImpostor(const spdk::Subsystem& subsystem, const base::Uuid& volume_id,
                                    std::string_view bdev_name) {
  for (const spdk::Namespace& ns : subsystem.namespaces) {
    if (ns.uuid == volume_id && ns.bdev_name != bdev_name) return &ns;
  }
  return nullptr;
}

// Returns the first 20 hexadecimal digits of a random UUID: 74 random bits.
std::string NewSerialNumber() {
  return base::Uuid::Random().ToHex().substr(0, kSerialNumberLength);
}

bool IsOwned(const SubsystemSpec& spec, const spdk::Subsystem& actual) {
  if (spec.serial_number.empty()) return true;
  if (spec.serial_number != actual.serial_number) return false;
  if (IsUnique(spec.serial_number)) return true;
  const bool has_host =
      std::any_of(spec.hosts.begin(), spec.hosts.end(),
                  [&](const std::string& host) { return Contains(actual.hosts, host); });
  const bool is_empty =
      actual.hosts.empty() && actual.listeners.empty() && actual.namespaces.empty();
  return has_host || is_empty || HasListener(spec, actual);
}

Missing FindMissing(const SubsystemSpec& spec, const spdk::Subsystem* actual,
                    std::span<const DeviceVolume> volumes, const BdevNames& bdev_names) {
  Missing missing;
  missing.subsystem = actual == nullptr;
  missing.any_host = actual != nullptr && spec.allow_any_host && !actual->allow_any_host;
  missing.listener = actual == nullptr || !HasListener(spec, *actual);
  for (const std::string& host : spec.hosts) {
    if (actual == nullptr || !Contains(actual->hosts, host)) missing.hosts.push_back(host);
  }
  for (size_t i = 0; i < volumes.size(); ++i) {
    if (actual == nullptr || FindNamespace(*actual, volumes[i].id, bdev_names[i]) == nullptr) {
      missing.volumes.push_back(i);
    }
  }
  return missing;
}

std::vector<std::string> Differences(const SubsystemSpec& spec, const Missing& missing,
                                     std::span<const DeviceVolume> volumes,
                                     const spdk::Subsystem* actual) {
  if (actual == nullptr) return {fmt::format("subsystem {} is missing", spec.nqn)};
  std::vector<std::string> words;
  for (const std::string& host : missing.hosts)
    words.push_back(fmt::format("host {} is missing", host));
  if (missing.listener) {
    words.push_back(fmt::format("listener {} is missing", DescribeAddress(spec.listener)));
  }
  for (size_t i : missing.volumes) {
    words.push_back(fmt::format("volume {} is missing", volumes[i].id.ToString()));
  }
  if (missing.any_host) words.push_back("access by any host is not allowed");
  if (actual->allow_any_host && !spec.allow_any_host) {
    words.push_back("access by any host is allowed, but was not requested");
  }
  return words;
}

bool IsEqual(const SubsystemSpec& spec, const spdk::Subsystem& actual) {
  return !actual.is_discovery && actual.allow_any_host == spec.allow_any_host &&
         !FindMissing(spec, &actual).any() && HasOnlyHosts(spec, actual) &&
         HasOnlyListener(spec, actual);
}

bool HasOtherNamespaces(const spdk::Subsystem& subsystem, const DeviceVolume* volume) {
  return std::any_of(
      subsystem.namespaces.begin(), subsystem.namespaces.end(),
      [&](const spdk::Namespace& ns) { return volume == nullptr || ns.uuid != volume->id; });
}

bool IsPartOf(const spdk::Subsystem& actual, const SubsystemSpec& spec,
              const DeviceVolume* volume) {
  return !actual.is_discovery && actual.allow_any_host == spec.allow_any_host &&
         !HasOtherNamespaces(actual, volume) && HasOnlyHosts(spec, actual) &&
         HasOnlyListener(spec, actual);
}

}  // namespace sma::nvmf_common
