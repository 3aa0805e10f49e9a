// SPDX-License-Identifier: Apache-2.0

#include "worlds/topology.h"

#include <fmt/format.h>

#include "base/uuid.h"

namespace sma::worlds {

namespace {

constexpr char kNqnPrefix[] = "nqn.2016-06.io.spdk:";
constexpr char kPort[] = "4420";
constexpr char kIqn[] = "iqn.2024-01.com.example:disks";
constexpr char kKey[] = "1234567890abcdef1234567890abcde";
constexpr char kKey2[] = "fedcba0987654321fedcba098765432";

std::string KeyOf(int volume) { return fmt::format("{}{:x}", kKey, volume); }
std::string Key2Of(int volume) { return fmt::format("{}{:x}", kKey2, volume); }

VolumeCryptoParameters::TweakMode TweakModeOf(int volume) {
  return volume == 10 ? VolumeCryptoParameters::TWEAK_MODE_INCR_512_FULL_LBA
                      : VolumeCryptoParameters::TWEAK_MODE_SIMPLE_LBA;
}

bool TakeSuffix(std::string& text, char suffix) {
  if (!text.ends_with(suffix)) return false;
  text.pop_back();
  return true;
}

}  // namespace

Location LocationOf(int volume) {
  if (volume <= 3) return Location::kNodeA;
  if (volume <= 6) return Location::kNodeB;
  return volume <= 8 ? Location::kIscsi : Location::kLocal;
}

bool IsEncrypted(int volume) { return volume == 4 || volume == 8 || volume == 10 || volume == 12; }

std::string UuidOf(int volume) { return fmt::format("{:08d}-1111-4222-8333-444444444444", volume); }

std::string VolumeId(int volume) { return base::Uuid::Parse(UuidOf(volume))->ToBytes(); }

int VolumeOfUuid(const std::string& uuid) {
  for (int volume = 1; volume <= kVolumeCount; ++volume) {
    if (UuidOf(volume) == uuid) return volume;
  }
  return 0;
}

int VolumeOfId(const std::string& id) {
  for (int volume = 1; volume <= kVolumeCount; ++volume) {
    if (VolumeId(volume) == id) return volume;
  }
  return 0;
}

std::string SubsystemOf(int volume) {
  constexpr const char* kNames[] = {"a1", "a1", "a2", "b1", "b1", "b2"};
  return std::string(kNqnPrefix) + kNames[volume - 1];
}

Contents TruthOf(int volume) {
  Contents contents{.medium = "medium-" + std::to_string(volume), .key = ""};
  if (IsEncrypted(volume)) {
    contents.key = fmt::format("aes_xts {} {} {}", KeyOf(volume), Key2Of(volume),
                               volume == 10 ? "incr_512_full_lba" : "simple_lba");
  }
  return contents;
}

std::string IscsiUrlOf(int volume) {
  return fmt::format("iscsi://10.0.2.1:3260/{}/{}", kIqn, volume);
}

NodeAddress AddressOf(int volume, int number) {
  return {
      .traddr = fmt::format("10.0.{}.{}", LocationOf(volume) == Location::kNodeA ? 0 : 1, number),
      .trsvcid = kPort};
}

Storage MakeStorage() {
  Storage storage;
  for (int volume = 1; volume <= 6; ++volume) {
    StorageNode& node = storage.nodes[LocationOf(volume) == Location::kNodeA ? "a" : "b"];
    node.has_referrals = LocationOf(volume) == Location::kNodeB;
    for (int number : {1, 2}) node.addresses[AddressOf(volume, number)] = AddressState::kUp;
    auto& namespaces = node.subsystems[SubsystemOf(volume)];
    namespaces[static_cast<uint32_t>(namespaces.size() + 1)] = {.uuid = UuidOf(volume),
                                                                .medium = TruthOf(volume).medium};
  }
  for (int volume : {7, 8}) storage.iscsi_units[IscsiUrlOf(volume)] = TruthOf(volume).medium;
  return storage;
}

bool IsVfioUser(int device) { return device == 4 || device == 5; }
bool IsVhost(int device) { return device == 6 || device == 7; }

std::string NqnOf(int device) {
  if (IsVfioUser(device)) return fmt::format("{}vfiouser-{}", kNqnPrefix, device);
  return fmt::format("{}cnode{}", kNqnPrefix, device);
}

std::string VhostOf(int device) { return fmt::format("sma-{}", device); }

std::string HandleOf(int device) {
  if (IsVhost(device)) return "virtio_blk:" + VhostOf(device);
  return (IsVfioUser(device) ? "nvme:" : "nvmf-tcp:") + NqnOf(device);
}

std::string HostOf(int device) { return fmt::format("{}host{}", kNqnPrefix, device); }

CreateDeviceRequest DeviceRequest(int device) {
  CreateDeviceRequest request;
  if (IsVfioUser(device)) {
    request.mutable_nvme()->set_physical_id(static_cast<uint32_t>(device));
  } else if (IsVhost(device)) {
    request.mutable_virtio_blk()->set_physical_id(static_cast<uint32_t>(device));
  } else {
    nvmf_tcp::DeviceParameters& params = *request.mutable_nvmf_tcp();
    params.set_subnqn(NqnOf(device));
    params.set_adrfam("ipv4");
    params.set_traddr("127.0.0.1");
    params.set_trsvcid(std::to_string(4420 + device));
    // Tests devices for one host and devices for any host.
    if (device == 3) {
      params.set_allow_any_host(true);
    } else {
      params.add_hosts(HostOf(device));
    }
  }
  return request;
}

VolumeParameters VolumeRequest(int volume, std::string how) {
  const bool is_clear = TakeSuffix(how, 'c');
  const bool names_subsystem = TakeSuffix(how, 'q');
  const bool is_shared_host = TakeSuffix(how, 's');
  VolumeParameters params;
  params.set_volume_id(VolumeId(volume));
  if (IsEncrypted(volume) && !is_clear) {
    VolumeCryptoParameters& crypto = *params.mutable_crypto();
    crypto.set_cipher(VolumeCryptoParameters::AES_XTS);
    crypto.set_tweak_mode(TweakModeOf(volume));
    crypto.set_key(KeyOf(volume));
    crypto.set_key2(Key2Of(volume));
  }
  if (LocationOf(volume) == Location::kLocal) return params;
  if (LocationOf(volume) == Location::kIscsi) {
    iscsi::VolumeConnectionParameters& unit = *params.mutable_iscsi();
    unit.set_portal("10.0.2.1:3260");
    unit.set_target_iqn(kIqn);
    const bool is_other = how.starts_with('=');
    unit.set_lun(static_cast<uint32_t>(is_other ? std::stoi(how.substr(1)) : volume));
    unit.set_initiator_iqn("iqn.2024-01.com.example:agent");
    return params;
  }
  nvmf::VolumeConnectionParameters& nvmf = *params.mutable_nvmf();
  nvmf.set_hostnqn("nqn.2014-08.org.nvmexpress:" +
                   (is_shared_host ? "host" : "host" + std::to_string(volume)));
  const bool is_direct = how.starts_with('p');
  if (is_direct || names_subsystem) nvmf.set_subnqn(SubsystemOf(volume));
  const std::string numbers = how.size() > 1 ? how.substr(1) : "1";
  for (char number : numbers) {
    nvmf::Address& address = is_direct ? *nvmf.mutable_direct()->add_addresses()
                                       : *nvmf.mutable_discovery()->add_discovery_endpoints();
    const NodeAddress at = AddressOf(volume, number - '0');
    address.set_trtype("TCP");
    address.set_traddr(at.traddr);
    address.set_trsvcid(at.trsvcid);
  }
  return params;
}

}  // namespace sma::worlds
