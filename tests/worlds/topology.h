// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <string>
#include <vector>

#include "sma.pb.h"
#include "worlds/storage.h"

namespace sma::worlds {

// The objects of every world. Volumes are numbered from 1, devices from 0.
//
//   node A, 10.0.0.1 and 10.0.0.2, no referrals:     nqn…:a1 with volumes 1 and 2, nqn…:a2 with 3
//   node B, 10.0.1.1 and 10.0.1.2, mutual referrals: nqn…:b1 with volumes 4 and 5, nqn…:b2 with 6
//   iSCSI:                                           volumes 7 and 8
//   the target's own bdevs:                          volumes 9 to 12
//
// Volumes 4, 8, 10 and 12 are encrypted. Devices 0 to 3 are of type nvmf_tcp; in a world with a VM,
// 4 and 5 are of type vfiouser, 6 and 7 of type vhost_blk.
inline constexpr int kVolumeCount = 12;
inline constexpr int kDeviceCount = 8;

enum class Location { kNodeA, kNodeB, kIscsi, kLocal };

Location LocationOf(int volume);
bool IsEncrypted(int volume);
std::string UuidOf(int volume);
std::string VolumeId(int volume);  // 16 bytes
/// Return 0 if there is no such volume.
int VolumeOfUuid(const std::string& uuid);
int VolumeOfId(const std::string& id);
std::string SubsystemOf(int volume);  // NQN, of volumes of the nodes
/// Returns the medium, and the key if the volume is encrypted.
Contents TruthOf(int volume);
std::string IscsiUrlOf(int volume);
/// Returns address `number`, 1 or 2, of the volume's node.
NodeAddress AddressOf(int volume, int number);

Storage MakeStorage();

bool IsVfioUser(int device);
bool IsVhost(int device);
std::string NqnOf(int device);    // of devices that are subsystems
std::string VhostOf(int device);  // the controller's name, for devices of type vhost_blk
std::string HandleOf(int device);
std::string HostOf(int device);  // the host that may use the device, for type nvmf_tcp

CreateDeviceRequest DeviceRequest(int device);
/// `how` selects the connection: "d1", "d2", "d12" by discovery at these addresses of the volume's
/// node, "p1", "p2", "p12" directly; "" the first of these, or the kind that suits the volume. A
/// trailing "s" means one host NQN for all volumes instead of one for each; a trailing "q" adds the
/// NQN of the subsystem although it is not needed; "=N" selects the unit of volume N; a trailing
/// "c" means that the request is made as if the volume were not encrypted.
VolumeParameters VolumeRequest(int volume, std::string how);

}  // namespace sma::worlds
