// The calls that sweeps go through.

#include "fault/sweep_fixture.h"

namespace sma::core {

using absl::StatusCode;

namespace {

constexpr int kMissing = 555;  // number of a volume that nobody has
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

void SweepFixture::Prepare(std::initializer_list<int> volumes) {
  absl::Status status = CreateWith(0);
  ASSERT_TRUE(status.ok()) << status;
  for (int volume : volumes) {
    status = AttachWith(volume);
    ASSERT_TRUE(status.ok()) << status;
  }
}

SweepFixture::Operation SweepFixture::DeviceWithLimits() {
  auto prepare = [this] {
    ASSERT_TRUE(CreateWith(0, 1).ok());
    ASSERT_TRUE(SetLimit(1, 3).ok());
  };
  return {.name = "with limits", .prepare = prepare, .run = [] { return absl::OkStatus(); }};
}

std::vector<SweepFixture::Operation> SweepFixture::Operations() {
  if (GetParam() == Group::kVhostBlk) return VhostOperations();
  std::vector<Operation> operations = VolumeOperations();
  std::vector<Operation> more;
  if (GetParam() == Group::kLocal) more = LocalOperations();
  if (GetParam() == Group::kEncrypted || GetParam() == Group::kEncryptedRemote) {
    more = EncryptionOperations();
  }
  operations.insert(operations.end(), more.begin(), more.end());
  return operations;
}

std::vector<SweepFixture::Operation> SweepFixture::VolumeOperations() {
  const std::string handle = DeviceHandle(0);
  auto nothing = [] {};
  auto empty = [this] { Prepare({}); };
  auto one = [this] { Prepare({1}); };
  auto two = [this] { Prepare({1, 2}); };
  auto limited = [this] {
    Prepare({1});
    ASSERT_TRUE(SetLimit(1, 3).ok());
  };
  auto limited_before = [this, handle] {
    Prepare({1, 2});
    ASSERT_TRUE(SetLimit(1, 3).ok());
    ASSERT_TRUE(Detach(handle, 1).ok());
  };
  auto elsewhere = [this] {
    ASSERT_TRUE(CreateWith(1, 1).ok());
    Prepare({});
  };
  auto attach = [this] { return AttachWith(1); };
  auto remove = [this, handle] { return Delete(handle); };
  auto limit = [this] { return SetLimit(1, 5); };
  const StatusCode exists = StatusCode::kAlreadyExists, missing = StatusCode::kNotFound;
  return {
      {.name = "create",
       .prepare = nothing,
       .run = [this] { return CreateWith(0); },
       .take_back = remove},
      {.name = "create with volume",
       .prepare = nothing,
       .run = [this] { return CreateWith(0, 1); },
       .take_back = remove},
      {.name = "create again",
       .prepare = [this] { ASSERT_TRUE(CreateWith(0, 1).ok()); },
       .run = [this] { return CreateWith(0, 1); }},
      {.name = "create without its volume",
       .prepare = nothing,
       .run = [this] { return CreateWith(0, kMissing); },
       .code = missing,
       .is_main = false},
      {.name = "attach",
       .prepare = empty,
       .run = attach,
       .take_back = [this, handle] { return Detach(handle, 1); }},
      {.name = "attach a second",
       .prepare = one,
       .run = [this] { return AttachWith(2); },
       .take_back = [this, handle] { return Detach(handle, 2); }},
      {.name = "attach again", .prepare = one, .run = attach},
      {.name = "attach with limits",
       .prepare = limited_before,
       .run = attach,
       .is_main = false,
       .outlives_target = false},
      {.name = "attach what is elsewhere", .prepare = elsewhere, .run = attach, .code = exists},
      {.name = "attach a missing one",
       .prepare = one,
       .run = [this] { return AttachWith(kMissing); },
       .code = missing},
      {.name = "detach",
       .prepare = two,
       .run = [this, handle] { return Detach(handle, 2); },
       .removes = true},
      {.name = "detach the last",
       .prepare = one,
       .run = [this, handle] { return Detach(handle, 1); },
       .removes = true,
       .is_main = false},
      {.name = "delete", .prepare = empty, .run = remove, .removes = true},
      {.name = "delete with volumes", .prepare = two, .run = remove, .removes = true},
      {.name = "set first limits", .prepare = one, .run = limit},
      {.name = "set limits", .prepare = limited, .run = limit},
  };
}

std::vector<SweepFixture::Operation> SweepFixture::LocalOperations() {
  auto one = [this] { Prepare({1}); };
  auto create_other = [this] {
    CreateDeviceRequest request = CreateRequest(0);
    request.mutable_nvmf_tcp()->set_trsvcid("4421");
    return Create(request);
  };
  // Without a record, as another agent would have made it.
  auto of_another_agent = [this] {
    Prepare({1});
    Crash();
    *disk_ = record::MemoryDisk{.devices = {}, .volumes = {}, .limits = {}, .fault = disk_->fault};
    Open();
  };
  return {
      {.name = "create with other parameters",
       .prepare = one,
       .run = create_other,
       .code = StatusCode::kAlreadyExists},
      {.name = "take over",
       .prepare = of_another_agent,
       .run = [this] { return CreateWith(0, 1); },
       .is_main = false,
       .outlives_target = false},
  };
}

std::vector<SweepFixture::Operation> SweepFixture::EncryptionOperations() {
  auto one = [this] { Prepare({1}); };
  auto attach_other = [this](const std::function<void(VolumeParameters&)>& change) {
    AttachVolumeRequest request;
    request.set_device_handle(DeviceHandle(0));
    *request.mutable_volume() = Volume(1);
    change(*request.mutable_volume());
    return core_->agent().AttachVolume(context_, request).status();
  };
  return {
      {.name = "attach with another key",
       .prepare = one,
       .run =
           [attach_other] {
             return attach_other([](VolumeParameters& volume) {
               volume.mutable_crypto()->set_key("00000000000000000000000000000003");
             });
           },
       .code = StatusCode::kInvalidArgument,
       .is_main = false},
      {.name = "attach in clear",
       .prepare = one,
       .run = [attach_other] { return attach_other([](auto& volume) { volume.clear_crypto(); }); },
       .code = StatusCode::kInvalidArgument,
       .is_main = false},
  };
}

std::vector<SweepFixture::Operation> SweepFixture::VhostOperations() {
  const std::string handle = DeviceHandle(0);
  auto nothing = [] {};
  auto one = [this] { ASSERT_TRUE(CreateWith(0, 1).ok()); };
  auto limited = [this, one] {
    one();
    ASSERT_TRUE(SetLimit(0, 3).ok());
  };
  auto both = [this, one] {
    one();
    ASSERT_TRUE(CreateWith(1, 2).ok());
  };
  const StatusCode exists = StatusCode::kAlreadyExists;
  return {
      {.name = "create",
       .prepare = nothing,
       .run = [this] { return CreateWith(0, 1); },
       .take_back = [this, handle] { return Delete(handle); }},
      {.name = "create beside another", .prepare = one, .run = [this] { return CreateWith(1, 2); }},
      {.name = "create again", .prepare = one, .run = [this] { return CreateWith(0, 1); }},
      {.name = "create with another volume",
       .prepare = one,
       .run = [this] { return CreateWith(0, 2); },
       .code = exists},
      {.name = "create with a volume in use",
       .prepare = one,
       .run = [this] { return CreateWith(1, 1); },
       .code = exists},
      {.name = "create without its volume",
       .prepare = nothing,
       .run = [this] { return CreateWith(0, kMissing); },
       .code = StatusCode::kNotFound},
      {.name = "delete",
       .prepare = one,
       .run = [this, handle] { return Delete(handle); },
       .removes = true},
      {.name = "delete beside another",
       .prepare = both,
       .run = [this, handle] { return Delete(handle); },
       .removes = true},
      {.name = "set first limits", .prepare = one, .run = [this] { return SetLimit(1, 5); }},
      {.name = "set limits of a device",
       .prepare = limited,
       .run = [this] { return SetLimit(0, 5); }},
  };
}

}  // namespace sma::core
