#pragma once

#include <span>
#include <string>
#include <vector>

#include "agent/spdk/nvmf.h"
#include "devices/nvmf_common/subsystem_spec.h"
#include "sma/device_manager.h"

namespace sma::nvmf_common {

/// What a subsystem lacks to be a device with its volumes.
struct Missing {
  bool subsystem = false;
  bool any_host = false;  // is not allowed though it should be
  std::vector<std::string> hosts;
  bool listener = false;
  std::vector<size_t> volumes;  // places in the list of volumes

  bool any() const {
    return subsystem || any_host || listener || !hosts.empty() || !volumes.empty();
  }
};

/// What `actual` (null: there is none) lacks. What it has beyond `spec` and `volumes` does not
/// count.
Missing FindMissing(const SubsystemSpec& spec, std::span<const DeviceVolume> volumes,
                    const spdk::Subsystem* actual);

/// In words, for logs and for people: what is missing, and what was opened up.
std::vector<std::string> Differences(const SubsystemSpec& spec,
                                     std::span<const DeviceVolume> volumes,
                                     const spdk::Subsystem* actual);

/// Whether `actual` is just what CreateDevice makes for `spec`, its namespaces aside.
bool IsEqual(const SubsystemSpec& spec, const spdk::Subsystem& actual);

/// Whether CreateDevice with `spec` and `volume` (null: none) may have got as far as `actual`:
/// nothing is there that it would not have made.
bool IsPartOf(const spdk::Subsystem& actual, const SubsystemSpec& spec, const DeviceVolume* volume);

/// In words: "ADDRESS port PORT", or the address alone where there is no port.
std::string DescribeAddress(const spdk::TransportAddress& address);

/// The NSID in DeviceVolume::attachment; 0 when it is not known.
uint32_t NsidOf(const std::string& attachment);

/// The namespace that `volume` becomes, its NSID left to the target.
spdk::Namespace NamespaceOf(const DeviceVolume& volume);

/// The namespace with this NSID; null when there is none.
const spdk::Namespace* NamespaceAt(const spdk::Subsystem& subsystem, uint32_t nsid);

/// The namespace that `id` is attached as; null when it is not.
const spdk::Namespace* FindNamespace(const spdk::Subsystem& subsystem, const base::Uuid& id);

}  // namespace sma::nvmf_common
