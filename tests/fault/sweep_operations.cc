// SPDX-License-Identifier: Apache-2.0

// Defines the calls that the sweeps test.

#include "fault/sweep_fixture.h"

namespace sma::core {

using absl::StatusCode;

namespace {

constexpr int kMissing = 555;  // number of a volume that does not exist

}  // namespace

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
       .undo = remove},
      {.name = "create with volume",
       .prepare = nothing,
       .run = [this] { return CreateWith(0, 1); },
       .undo = remove},
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
       .undo = [this, handle] { return Detach(handle, 1); }},
      {.name = "attach a second",
       .prepare = one,
       .run = [this] { return AttachWith(2); },
       .undo = [this, handle] { return Detach(handle, 2); }},
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
  // Creates objects without a record, as another agent would.
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
       .undo = [this, handle] { return Delete(handle); }},
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
