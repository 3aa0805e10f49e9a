#include "devices/nvmf_tcp/comparison.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "devices/nvmf_tcp/params.h"

namespace sma::nvmf_tcp {
namespace {

template <typename List>
bool Contains(const List& list, const std::string& text) {
  return std::find(list.begin(), list.end(), text) != list.end();
}

bool HasListener(const DeviceParameters& params, const spdk::Subsystem& subsystem) {
  return std::any_of(
      subsystem.listeners.begin(), subsystem.listeners.end(),
      [&](const spdk::TransportAddress& a) { return spdk::SameAddress(a, AddressOf(params)); });
}

bool HasOnlyListener(const DeviceParameters& params, const spdk::Subsystem& subsystem) {
  return std::all_of(
      subsystem.listeners.begin(), subsystem.listeners.end(),
      [&](const spdk::TransportAddress& a) { return spdk::SameAddress(a, AddressOf(params)); });
}

bool HasOnlyHosts(const DeviceParameters& params, const spdk::Subsystem& subsystem) {
  return std::all_of(subsystem.hosts.begin(), subsystem.hosts.end(),
                     [&](const std::string& host) { return Contains(params.hosts(), host); });
}

}  // namespace

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

Missing FindMissing(const DeviceParameters& params, std::span<const DeviceVolume> volumes,
                    const spdk::Subsystem* actual) {
  Missing missing;
  missing.subsystem = actual == nullptr;
  missing.any_host = actual != nullptr && params.allow_any_host() && !actual->allow_any_host;
  missing.listener = actual == nullptr || !HasListener(params, *actual);
  for (const std::string& host : params.hosts()) {
    if (actual == nullptr || !Contains(actual->hosts, host)) missing.hosts.push_back(host);
  }
  for (size_t i = 0; i < volumes.size(); ++i) {
    if (actual == nullptr || FindNamespace(*actual, volumes[i].id) == nullptr) {
      missing.volumes.push_back(i);
    }
  }
  return missing;
}

std::vector<std::string> Differences(const DeviceParameters& params,
                                     std::span<const DeviceVolume> volumes,
                                     const spdk::Subsystem* actual) {
  if (actual == nullptr) return {fmt::format("subsystem {} is missing", params.subnqn())};
  const Missing missing = FindMissing(params, volumes, actual);
  std::vector<std::string> words;
  for (const std::string& host : missing.hosts)
    words.push_back(fmt::format("host {} is missing", host));
  if (missing.listener) {
    words.push_back(
        fmt::format("listener {} port {} is missing", params.traddr(), params.trsvcid()));
  }
  for (size_t i : missing.volumes) {
    words.push_back(fmt::format("volume {} is missing", volumes[i].id.ToString()));
  }
  if (missing.any_host) words.push_back("not every host is allowed");
  if (actual->allow_any_host && !params.allow_any_host()) {
    words.push_back("every host is allowed, which was not asked for");
  }
  return words;
}

bool IsEqual(const DeviceParameters& params, const spdk::Subsystem& actual) {
  return !actual.is_discovery && actual.allow_any_host == params.allow_any_host() &&
         !FindMissing(params, {}, &actual).any() && HasOnlyHosts(params, actual) &&
         HasOnlyListener(params, actual);
}

bool IsPartOf(const spdk::Subsystem& actual, const DeviceParameters& params,
              const DeviceVolume* volume) {
  bool only_volume =
      std::all_of(actual.namespaces.begin(), actual.namespaces.end(),
                  [&](const spdk::Namespace& ns) { return volume && ns.uuid == volume->id; });
  return !actual.is_discovery && actual.allow_any_host == params.allow_any_host() && only_volume &&
         HasOnlyHosts(params, actual) && HasOnlyListener(params, actual);
}

}  // namespace sma::nvmf_tcp
