#include "devices/nvmf_common/comparison.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace sma::nvmf_common {
namespace {

template <typename List>
bool Contains(const List& list, const std::string& text) {
  return std::find(list.begin(), list.end(), text) != list.end();
}

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

}  // namespace

std::string DescribeAddress(const spdk::TransportAddress& address) {
  if (address.trsvcid.empty()) return address.traddr;
  return fmt::format("{} port {}", address.traddr, address.trsvcid);
}

uint32_t NsidOf(const std::string& attachment) {
  uint32_t nsid = 0;
  auto [end, error] =
      std::from_chars(attachment.data(), attachment.data() + attachment.size(), nsid);
  return error == std::errc() && end == attachment.data() + attachment.size() ? nsid : 0;
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

const spdk::Namespace* FindNamespace(const spdk::Subsystem& subsystem, const base::Uuid& id) {
  for (const spdk::Namespace& ns : subsystem.namespaces) {
    if (ns.uuid == id) return &ns;
  }
  return nullptr;
}

Missing FindMissing(const SubsystemSpec& spec, std::span<const DeviceVolume> volumes,
                    const spdk::Subsystem* actual) {
  Missing missing;
  missing.subsystem = actual == nullptr;
  missing.any_host = actual != nullptr && spec.allow_any_host && !actual->allow_any_host;
  missing.listener = actual == nullptr || !HasListener(spec, *actual);
  for (const std::string& host : spec.hosts) {
    if (actual == nullptr || !Contains(actual->hosts, host)) missing.hosts.push_back(host);
  }
  for (size_t i = 0; i < volumes.size(); ++i) {
    if (actual == nullptr || FindNamespace(*actual, volumes[i].id) == nullptr) {
      missing.volumes.push_back(i);
    }
  }
  return missing;
}

std::vector<std::string> Differences(const SubsystemSpec& spec,
                                     std::span<const DeviceVolume> volumes,
                                     const spdk::Subsystem* actual) {
  if (actual == nullptr) return {fmt::format("subsystem {} is missing", spec.nqn)};
  const Missing missing = FindMissing(spec, volumes, actual);
  std::vector<std::string> words;
  for (const std::string& host : missing.hosts)
    words.push_back(fmt::format("host {} is missing", host));
  if (missing.listener) {
    words.push_back(fmt::format("listener {} is missing", DescribeAddress(spec.listener)));
  }
  for (size_t i : missing.volumes) {
    words.push_back(fmt::format("volume {} is missing", volumes[i].id.ToString()));
  }
  if (missing.any_host) words.push_back("not every host is allowed");
  if (actual->allow_any_host && !spec.allow_any_host) {
    words.push_back("every host is allowed, which was not asked for");
  }
  return words;
}

bool IsEqual(const SubsystemSpec& spec, const spdk::Subsystem& actual) {
  return !actual.is_discovery && actual.allow_any_host == spec.allow_any_host &&
         !FindMissing(spec, {}, &actual).any() && HasOnlyHosts(spec, actual) &&
         HasOnlyListener(spec, actual);
}

bool IsPartOf(const spdk::Subsystem& actual, const SubsystemSpec& spec,
              const DeviceVolume* volume) {
  bool only_volume =
      std::all_of(actual.namespaces.begin(), actual.namespaces.end(),
                  [&](const spdk::Namespace& ns) { return volume && ns.uuid == volume->id; });
  return !actual.is_discovery && actual.allow_any_host == spec.allow_any_host && only_volume &&
         HasOnlyHosts(spec, actual) && HasOnlyListener(spec, actual);
}

}  // namespace sma::nvmf_common
