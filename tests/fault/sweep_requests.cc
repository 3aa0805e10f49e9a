// SPDX-License-Identifier: Apache-2.0

// Builds the requests for the devices and volumes of a group.

#include "fault/sweep_fixture.h"

namespace sma::core {

namespace {

constexpr char kKey[] = "1234567890abcdef1234567890abcdef";
constexpr char kKey2[] = "fedcba0987654321fedcba0987654321";

void AddAddress(const char* port, nvmf::Address& address) {
  address.set_trtype("TCP");
  address.set_traddr("127.0.0.1");
  address.set_trsvcid(port);
}

void AddKeys(VolumeCryptoParameters::TweakMode mode, VolumeParameters& volume) {
  VolumeCryptoParameters& crypto = *volume.mutable_crypto();
  crypto.set_cipher(VolumeCryptoParameters::AES_XTS);
  crypto.set_tweak_mode(mode);
  crypto.set_key(kKey);
  crypto.set_key2(kKey2);
}

}  // namespace

VolumeParameters SweepFixture::Volume(int number) {
  VolumeParameters volume;
  volume.set_volume_id(Id(number));
  const Group group = GetParam();
  nvmf::VolumeConnectionParameters nvmf;
  nvmf.set_hostnqn("nqn.2014-08.org.nvmexpress:host" + std::to_string(number));
  if (group == Group::kDiscovery || group == Group::kEncryptedRemote) {
    *volume.mutable_nvmf() = nvmf;
    AddAddress("8009", *volume.mutable_nvmf()->mutable_discovery()->add_discovery_endpoints());
  } else if (group == Group::kDirect) {
    nvmf.set_subnqn("nqn.2016-06.io.spdk:remote0");
    *volume.mutable_nvmf() = nvmf;
    for (const char* port : {"4430", "4431"}) {
      AddAddress(port, *volume.mutable_nvmf()->mutable_direct()->add_addresses());
    }
  } else if (group == Group::kIscsi) {
    iscsi::VolumeConnectionParameters& unit = *volume.mutable_iscsi();
    unit.set_portal("127.0.0.1");
    unit.set_target_iqn("iqn.2024-01.com.example:disks");
    unit.set_lun(static_cast<uint32_t>(number));
    unit.set_initiator_iqn("iqn.2024-01.com.example:agent");
  }
  if (group == Group::kEncrypted) {
    AddKeys(VolumeCryptoParameters::TWEAK_MODE_SIMPLE_LBA, volume);
  } else if (group == Group::kEncryptedRemote) {
    AddKeys(VolumeCryptoParameters::TWEAK_MODE_INCR_512_FULL_LBA, volume);
  }
  return volume;
}

CreateDeviceRequest SweepFixture::DeviceRequest(int number, int volume) {
  CreateDeviceRequest request;
  if (GetParam() == Group::kVhostBlk) {
    request.mutable_virtio_blk()->set_physical_id(static_cast<uint32_t>(number));
  } else if (GetParam() == Group::kVfioUser) {
    request.mutable_nvme()->set_physical_id(static_cast<uint32_t>(number));
  } else {
    request = CreateRequest(number);
  }
  if (volume != 0) *request.mutable_volume() = Volume(volume);
  return request;
}

std::string SweepFixture::DeviceHandle(int number) const {
  if (GetParam() == Group::kVhostBlk) return "virtio_blk:sma-" + std::to_string(number);
  if (GetParam() == Group::kVfioUser) {
    return "nvme:nqn.2016-06.io.spdk:vfiouser-" + std::to_string(number);
  }
  return Handle(number);
}

absl::Status SweepFixture::CreateWith(int number, int volume) {
  auto response = core_->agent().CreateDevice(context_, DeviceRequest(number, volume));
  if (response.ok()) {
    EXPECT_EQ(response->handle(), DeviceHandle(number));
  }
  return response.status();
}

absl::Status SweepFixture::AttachWith(int volume) {
  AttachVolumeRequest request;
  request.set_device_handle(DeviceHandle(0));
  *request.mutable_volume() = Volume(volume);
  return core_->agent().AttachVolume(context_, request).status();
}

absl::Status SweepFixture::SetLimit(int volume, uint64_t rw_iops) {
  SetQosRequest request;
  request.set_device_handle(DeviceHandle(0));
  if (volume != 0) request.set_volume_id(Id(volume));
  request.mutable_maximum()->set_rw_iops(rw_iops);
  return core_->agent().SetQos(context_, request).status();
}

}  // namespace sma::core
