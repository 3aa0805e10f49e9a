#pragma once

#include <string>
#include <vector>

#include "sma.pb.h"
#include "worlds/storage.h"

namespace sma::worlds {

// What there is in every world. Volumes are numbered from 1, devices from 0.
//
//   node A, 10.0.0.1 and 10.0.0.2, no referrals:     nqn…:a1 with volumes 1 and 2, nqn…:a2 with 3
//   node B, 10.0.1.1 and 10.0.1.2, mutual referrals: nqn…:b1 with volumes 4 and 5, nqn…:b2 with 6
//   iSCSI:                                           volumes 7 and 8
//   the target's own bdevs:                          volumes 9 to 12
//
// Volumes 4, 8, 10 and 12 are encrypted. Devices 0 to 3 are of type nvmf_tcp; in a world with a
// virtual machine 4 and 5 are of type vfiouser, 6 and 7 of type vhost_blk.
inline constexpr int kVolumeCount = 12;
inline constexpr int kDeviceCount = 8;

enum class Place { kNodeA, kNodeB, kIscsi, kLocal };

Place PlaceOf(int volume);
bool IsEncrypted(int volume);
std::string UuidOf(int volume);
std::string VolumeId(int volume);  // 16 bytes
/// 0 where there is none.
int VolumeOfUuid(const std::string& uuid);
int VolumeOfId(const std::string& id);
std::string SubsystemOf(int volume);  // NQN, of volumes of the nodes
/// The medium, and the key where the volume is encrypted.
Contents TruthOf(int volume);
std::string IscsiUrlOf(int volume);
/// Address `number`, 1 or 2, of the volume's node.
NodeAddress AddressOf(int volume, int number);

Storage MakeStorage();

bool IsVfioUser(int device);
bool IsVhost(int device);
std::string NqnOf(int device);    // of devices that are subsystems
std::string VhostOf(int device);  // the controller's name, of devices of type vhost_blk
std::string HandleOf(int device);
std::string HostOf(int device);  // the host that may use it, of type nvmf_tcp

CreateDeviceRequest DeviceRequest(int device);
/// How the volume is connected: "d1", "d2", "d12" by discovery at these addresses of its node,
/// "p1", "p2", "p12" directly; "" the first of these, or as the place of the volume asks for. A
/// trailing "s": with one host NQN for all volumes, not one for each. A trailing "q": with the NQN
/// of the subsystem, where it is not needed. "=N": as the unit of volume N. A trailing "c": as if
/// it were not encrypted.
VolumeParameters VolumeRequest(int volume, std::string how);

}  // namespace sma::worlds
