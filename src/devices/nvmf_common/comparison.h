#pragma once

#include <span>
#include <string>
#include <vector>

#include "agent/spdk/nvmf.h"
#include "devices/nvmf_common/subsystem_spec.h"
#include "sma/device_manager.h"

namespace sma::nvmf_common {

/// The target's own names of the bdevs of volumes, in the order of the volumes; empty: the target
/// has no such bdev, or it is not known what it calls it.
using BdevNames = std::vector<std::string>;

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

/// Whether `actual` is the subsystem of the device, not one that somebody else created under its
/// NQN.
bool IsOwned(const SubsystemSpec& spec, const spdk::Subsystem& actual);

/// What `actual` (null: there is none) lacks. What it has beyond `spec` and `volumes` does not
/// count.
Missing FindMissing(const SubsystemSpec& spec, const spdk::Subsystem* actual,
                    std::span<const DeviceVolume> volumes = {}, const BdevNames& bdev_names = {});

/// In words, for logs and for people: what `missing` lists and what was opened up.
std::vector<std::string> Differences(const SubsystemSpec& spec, const Missing& missing,
                                     std::span<const DeviceVolume> volumes,
                                     const spdk::Subsystem* actual);

/// Whether `actual` is just what CreateDevice makes for `spec`, its namespaces and its serial
/// number aside.
bool IsEqual(const SubsystemSpec& spec, const spdk::Subsystem& actual);

/// Whether CreateDevice with `spec` and `volume` (null: none) may have got as far as `actual`:
/// nothing is there that it would not have made.
bool IsPartOf(const spdk::Subsystem& actual, const SubsystemSpec& spec, const DeviceVolume* volume);

/// Whether the subsystem has the listener; whether it has no other one, or no host, than those of
/// `spec`.
bool HasListener(const SubsystemSpec& spec, const spdk::Subsystem& subsystem);
bool HasOnlyListener(const SubsystemSpec& spec, const spdk::Subsystem& subsystem);
bool HasOnlyHosts(const SubsystemSpec& spec, const spdk::Subsystem& subsystem);

/// Whether the subsystem has namespaces beside that of `volume` (null: any).
bool HasOtherNamespaces(const spdk::Subsystem& subsystem, const DeviceVolume* volume);

/// In words: "ADDRESS port PORT", or the address alone where there is no port.
std::string DescribeAddress(const spdk::TransportAddress& address);

/// The namespace that `volume` becomes, its NSID left to the target.
spdk::Namespace NamespaceOf(const DeviceVolume& volume);

/// The namespace with this NSID; null when there is none.
const spdk::Namespace* NamespaceAt(const spdk::Subsystem& subsystem, uint32_t nsid);

/// The namespace that exports the volume: it has the volume's UUID and exports its bdev, which the
/// target calls `bdev_name`. Null when there is none.
const spdk::Namespace* FindNamespace(const spdk::Subsystem& subsystem, const base::Uuid& volume_id,
                                     std::string_view bdev_name);

/// A namespace that has the volume's UUID but exports another bdev. Null when there is none.
const spdk::Namespace* FindImpostor(const spdk::Subsystem& subsystem, const base::Uuid& volume_id,
                                    std::string_view bdev_name);

}  // namespace sma::nvmf_common
