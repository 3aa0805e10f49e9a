// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <span>
#include <string>
#include <vector>

#include "agent/spdk/nvmf.h"
#include "devices/nvmf_common/subsystem_spec.h"
#include "sma/device_manager.h"

namespace sma::nvmf_common {

/// The target's names of the volumes' bdevs, in the order of the volumes. A name is empty if the
/// target has no such bdev or its name is unknown.
using BdevNames = std::vector<std::string>;

/// The parts of a device and its volumes that its subsystem lacks.
struct Missing {
  bool subsystem = false;
  bool any_host = false;  // not allowed although it should be
  std::vector<std::string> hosts;
  bool listener = false;
  std::vector<size_t> volumes;  // indexes in the list of volumes

  bool any() const {
    return subsystem || any_host || listener || !hosts.empty() || !volumes.empty();
  }
};

/// Returns true if `actual` is the subsystem of the device, not one that another client created
/// with the same NQN. The serial number of an adopted device may not be unique, for example if it
/// is SPDK's default. In that case `actual` must also have the device's listener or one of its
/// hosts, or be empty.
bool IsOwned(const SubsystemSpec& spec, const spdk::Subsystem& actual);

/// Returns the parts that `actual` lacks; `actual` is null if the subsystem does not exist.
/// Additional objects in `actual` are ignored.
Missing FindMissing(const SubsystemSpec& spec, const spdk::Subsystem* actual,
                    std::span<const DeviceVolume> volumes = {}, const BdevNames& bdev_names = {});

/// Describes, for logs and users, the parts in `missing`, and access that was opened to any host.
std::vector<std::string> Differences(const SubsystemSpec& spec, const Missing& missing,
                                     std::span<const DeviceVolume> volumes,
                                     const spdk::Subsystem* actual);

/// Returns true if `actual` is exactly what CreateDevice creates for `spec`, apart from namespaces
/// and the serial number.
bool IsEqual(const SubsystemSpec& spec, const spdk::Subsystem& actual);

/// Returns true if `actual` may be the partial result of CreateDevice with `spec` and `volume`,
/// that is, if it contains nothing else. `volume` is null if the request names no volume.
bool IsPartOf(const spdk::Subsystem& actual, const SubsystemSpec& spec, const DeviceVolume* volume);

/// Return true if the subsystem has the listener of `spec`, no other listener, or no other hosts.
bool HasListener(const SubsystemSpec& spec, const spdk::Subsystem& subsystem);
bool HasOnlyListener(const SubsystemSpec& spec, const spdk::Subsystem& subsystem);
bool HasOnlyHosts(const SubsystemSpec& spec, const spdk::Subsystem& subsystem);

/// Returns true if the subsystem has a namespace other than that of `volume`, or, if `volume` is
/// null, any namespace.
bool HasOtherNamespaces(const spdk::Subsystem& subsystem, const DeviceVolume* volume);

/// Returns "ADDRESS port PORT", or only the address if there is no port.
std::string DescribeAddress(const spdk::TransportAddress& address);

/// Returns the namespace for `volume`, without an NSID, so that the target selects one.
spdk::Namespace NamespaceOf(const DeviceVolume& volume);

/// Returns the namespace with this NSID; null if there is none.
const spdk::Namespace* NamespaceAt(const spdk::Subsystem& subsystem, uint32_t nsid);

/// Returns the namespace that exports the volume: it has the volume's UUID and exports the volume's
/// bdev, which the target names `bdev_name`. Null if there is none.
const spdk::Namespace* FindNamespace(const spdk::Subsystem& subsystem, const base::Uuid& volume_id,
                                     std::string_view bdev_name);

/// Returns a namespace that has the volume's UUID but exports another bdev; null if there is none.
const spdk::Namespace* FindImpostor(const spdk::Subsystem& subsystem, const base::Uuid& volume_id,
                                    std::string_view bdev_name);

}  // namespace sma::nvmf_common
