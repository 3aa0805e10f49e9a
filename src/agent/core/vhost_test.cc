// SPDX-License-Identifier: Apache-2.0

// Tests the core with vhost_blk devices: each has one volume for its lifetime, and vhost
// controllers do not claim their bdev.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include "agent/core/testing/agent_fixture.h"
#include "agent/crypto/bdev_crypto_engine.h"
#include "agent/probe/testing/login_portal.h"
#include "agent/qmp/testing/fake_qemu.h"
#include "agent/spdk/crypto.h"
#include "devices/vhost_blk/vhost_blk_manager.h"

namespace sma::core {
namespace {

using absl::StatusCode;
using testing::HasSubstr;

class VhostTest : public AgentFixture {
 protected:
  void SetUp() override {
    engine_ = [this] { return std::make_unique<crypto::BdevCryptoEngine>(target_, ""); };
    sealing_key_ = "0123456789abcdef0123456789ABCDEF";
    AgentFixture::SetUp();
    for (int volume : {1, 2}) target_.AddBdev(VolumeUuid(volume));
  }
  std::vector<std::unique_ptr<DeviceManager>> MakeManagers() override {
    std::vector<std::unique_ptr<DeviceManager>> managers;
    managers.push_back(std::make_unique<nvmf_tcp::NvmfTcpManager>(target_));
    vhost_blk::Options options;
    qmp::ClientOptions client;
    client.address = qemu_.address();
    qmp::ClientOptions other;
    other.address = other_qemu_.address();
    std::vector<qmp::Bus> buses{{"bus0", 32, std::make_shared<qmp::Client>(client)}};
    buses.insert(is_reordered_ ? buses.begin() : buses.end(),
                 {"bus0", 32, std::make_shared<qmp::Client>(other)});
    options.buses = qmp::Buses(std::move(buses), true);
    managers.push_back(std::make_unique<vhost_blk::VhostBlkManager>(target_, options));
    return managers;
  }
  static CreateDeviceRequest Vhost(int volume) {
    CreateDeviceRequest request;
    request.mutable_virtio_blk()->set_physical_id(0);
    request.mutable_volume()->set_volume_id(Id(volume));
    return request;
  }
  // A storage node with volume 9, for a device that uses it.
  static spdk::FakeRemote Remote9() {
    return {.ports = {"8009", "4430"},
            .subsystems = {{"nqn.2016-06.io.spdk:remote0", {VolumeUuid(9)}}}};
  }
  static CreateDeviceRequest Discovered9() {
    CreateDeviceRequest request = Vhost(9);
    auto& discovery = *request.mutable_volume()->mutable_nvmf()->mutable_discovery();
    nvmf::Address& address = *discovery.add_discovery_endpoints();
    address.set_trtype("tcp");
    address.set_traddr("127.0.0.1");
    address.set_trsvcid("8009");
    return request;
  }
  // Returns the same request, with volume 9 as an iSCSI logical unit on `portal`.
  CreateDeviceRequest Unit9(const std::string& portal) {
    const std::string target = "iqn.2024-01.com.example:disks";
    target_.AddIscsiUnit("iscsi://" + portal + "/" + target + "/9");
    CreateDeviceRequest request = Vhost(9);
    iscsi::VolumeConnectionParameters& params = *request.mutable_volume()->mutable_iscsi();
    params.set_portal(portal);
    params.set_target_iqn(target);
    params.set_lun(9);
    params.set_initiator_iqn("iqn.2024-01.com.example:agent");
    return request;
  }
  absl::Status Send(const CreateDeviceRequest& request) {
    return core_->agent().CreateDevice(context_, request).status();
  }
  static VolumeCryptoParameters Keys() {
    VolumeCryptoParameters params;
    params.set_cipher(VolumeCryptoParameters::AES_XTS);
    params.set_key("1234567890abcdef1234567890abcdef");
    params.set_key2("fedcba0987654321fedcba0987654321");
    return params;
  }
  absl::Status AttachId(int device, const base::Uuid& id, bool encrypted = false) {
    AttachVolumeRequest request;
    request.set_device_handle(Handle(device));
    request.mutable_volume()->set_volume_id(id.ToBytes());
    if (encrypted) *request.mutable_volume()->mutable_crypto() = Keys();
    return core_->agent().AttachVolume(context_, request).status();
  }
  static base::Uuid Uuid(int volume) { return *base::Uuid::Parse(VolumeUuid(volume)); }

  const std::string handle_ = "virtio_blk:sma-0";
  qmp::FakeQemu qemu_;
  qmp::FakeQemu other_qemu_;  // of a second bus
  bool is_reordered_ = false;
};

// The agent is restarted with its buses in another order, as after a change of the configuration.
TEST_F(VhostTest, ADiskStaysInItsVmIfTheBusesAreReordered) {
  ASSERT_TRUE(Send(Vhost(1)).ok());
  const std::string place = core_->record().FindDevice(handle_)->place;
  EXPECT_THAT(place, HasSubstr(qemu_.address().ToString()));
  Crash();
  is_reordered_ = true;
  Open();
  WaitFor([&] {
    return core_->record().FindDevice(handle_)->last_error.code == StatusCode::kFailedPrecondition;
  });
  EXPECT_EQ(Send(Vhost(1)).code(), StatusCode::kFailedPrecondition);
  EXPECT_FALSE(other_qemu_.HasDevice("sma-0"));
  EXPECT_TRUE(qemu_.HasDevice("sma-0"));
  EXPECT_EQ(core_->record().FindDevice(handle_)->place, place);
  EXPECT_TRUE(Delete(handle_).ok());
  EXPECT_FALSE(qemu_.HasDevice("sma-0"));
}

// The volume of the agent's device has disappeared, and the operator uses the controller's name for
// another disk.
TEST_F(VhostTest, Defect38_AControllerOfTheSameNameIsKeptWhenTheVolumeIsMissing) {
  for (const bool restarts : {false, true}) {
    ASSERT_TRUE(Send(Vhost(1)).ok());
    qemu_.RemoveByHand("sma-0");
    Operator("vhost_delete_controller", {{"ctrlr", "sma-0"}});
    Operator("bdev_null_delete", {{"name", "null-" + VolumeUuid(1)}});
    Operator("vhost_create_blk_controller", {{"ctrlr", "sma-0"}, {"dev_name", VolumeUuid(2)}});
    if (restarts) {
      Crash();
      Open();
    }
    const std::string before = target_.Dump();
    EXPECT_TRUE(Delete(handle_).ok());
    EXPECT_EQ(target_.Dump(), before);
    EXPECT_FALSE(core_->record().FindDevice(handle_));
    Operator("vhost_delete_controller", {{"ctrlr", "sma-0"}});
    target_.AddBdev(VolumeUuid(1));
  }
}

// An operator's controller that is not plugged into a VM is adopted and plugged; if the VM refuses
// it, it belongs to the operator again.
TEST_F(VhostTest, AnIdleControllerOfTheVolumeIsAdopted) {
  Operator("vhost_create_blk_controller", {{"ctrlr", "sma-0"}, {"dev_name", VolumeUuid(1)}});
  const std::string before = target_.Dump();
  qemu_.Refuse("device_add", "no such driver");
  EXPECT_THAT(std::string(Send(Vhost(1)).message()), HasSubstr("no such driver"));
  EXPECT_FALSE(core_->record().FindDevice(handle_));
  EXPECT_FALSE(core_->record().FindVolume(Uuid(1)));
  EXPECT_EQ(target_.Dump(), before);
  qemu_.Refuse("device_add", "");
  EXPECT_EQ(Send(Vhost(1)), absl::OkStatus());
  EXPECT_TRUE(qemu_.HasDevice("sma-0"));
  EXPECT_EQ(target_.Dump(), before);
  EXPECT_TRUE(Delete(handle_).ok());
}

// The controller that lost its bdev still belongs to the agent.
TEST_F(VhostTest, ADeviceWithAMissingVolumeIsDeleted) {
  ASSERT_TRUE(Send(Vhost(1)).ok());
  Operator("bdev_null_delete", {{"name", "null-" + VolumeUuid(1)}});
  EXPECT_TRUE(Delete(handle_).ok());
  EXPECT_THAT(target_.Operator("vhost_get_controllers")->dump(), Not(HasSubstr("sma-0")));
}

TEST_F(VhostTest, TheLayerOfAnEncryptedVolumeIsNotAVolume) {
  CreateDeviceRequest request = Vhost(1);
  *request.mutable_volume()->mutable_crypto() = Keys();
  ASSERT_TRUE(Send(request).ok());
  ASSERT_TRUE(Create(1).ok());
  const base::Uuid layer = spdk::CryptoBdevUuid(Uuid(1));
  EXPECT_EQ(AttachId(1, layer).code(), StatusCode::kAlreadyExists);
  EXPECT_EQ(AttachId(1, layer, /*encrypted=*/true).code(), StatusCode::kAlreadyExists);
  CreateDeviceRequest create = CreateRequest(2);
  create.mutable_volume()->set_volume_id(layer.ToBytes());
  EXPECT_EQ(Create(create).code(), StatusCode::kAlreadyExists);
  Crash();
  Open();
  EXPECT_EQ(AttachId(1, layer).code(), StatusCode::kAlreadyExists);
  EXPECT_TRUE(Subsystem(1)["namespaces"].empty());
  EXPECT_EQ(core_->record().volume_count(), 1u);
  // A UUID that no longer belongs to a layer may belong to a volume.
  ASSERT_TRUE(Delete(handle_).ok());
  target_.AddBdev(layer.ToString());
  EXPECT_TRUE(AttachId(1, layer).ok());
  EXPECT_EQ(AttachId(1, Uuid(1), /*encrypted=*/true).code(), StatusCode::kAlreadyExists);
}

// Even with `gone_volumes: detach` a vhost device keeps its volume, because it cannot exist without
// one. The volume is attached again when it reappears.
TEST_F(VhostTest, AVolumeThatReappearsLateIsAttachedToItsDevice) {
  options_.detach_gone_volumes = true;
  options_.volume_cleanup_period = std::chrono::milliseconds(100);
  options_.watch_period = std::chrono::milliseconds(20);
  options_.volumes.discovery_timeout = std::chrono::seconds(1);
  Crash();
  Open();
  const spdk::FakeRemote remote = Remote9();
  target_.SetRemote("a", remote);
  const CreateDeviceRequest request = Discovered9();
  ASSERT_TRUE(Send(request).ok());
  auto row = [&] { return *core_->record().FindVolume(Uuid(9)); };
  spdk::FakeRemote empty = remote;
  empty.subsystems["nqn.2016-06.io.spdk:remote0"] = {};
  target_.SetRemote("a", empty);
  WaitFor([&] { return row().last_error.message.find("for longer than") != std::string::npos; });
  EXPECT_EQ(row().state, record::VolumeState::kAttached);
  target_.SetRemote("a", remote);
  WaitFor([&] { return row().last_error.code == StatusCode::kOk; });
  EXPECT_TRUE(Send(request).ok());

  // Sets up a record of an earlier version in which the volume is being detached.
  Crash();
  for (auto& [id, volume] : disk_->volumes) volume.state = record::VolumeState::kDetaching;
  Open();
  WaitFor([&] { return row().state == record::VolumeState::kAttached; });
  EXPECT_TRUE(Send(request).ok());
}

// The guest continues to use its disk until it has released it, which may take longer than the
// call.
TEST_F(VhostTest, ADiskIsNotTakenFromAGuestThatHasNotReleasedIt) {
  options_.removal_time = std::chrono::milliseconds(1500);
  Crash();
  Open();
  target_.SetRemote("a", Remote9());
  const probe::LoginPortal portal(0x0203);  // no such target, but it answers
  for (const CreateDeviceRequest& request : {Unit9(portal.portal()), Discovered9()}) {
    qemu_.SetGuest(qmp::FakeQemu::Guest::kIgnores);
    ASSERT_TRUE(Send(request).ok());
    const absl::Status status = Delete(handle_);
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_TRUE(qemu_.HasDevice("sma-0"));
    EXPECT_TRUE(target_.Operator("bdev_get_bdevs", {{"name", VolumeUuid(9)}}).ok());
    qemu_.SetGuest(qmp::FakeQemu::Guest::kReleases);
    qemu_.ReleaseAll();
    WaitFor([this] { return !core_->record().FindDevice(handle_); });
    EXPECT_FALSE(target_.Operator("bdev_get_bdevs", {{"name", VolumeUuid(9)}}).ok());
  }
}

// The UUID of the controller's bdev is that of the layer: the encrypted volume has a different
// UUID.
TEST_F(VhostTest, Defect35_TheLayerOfAnotherAgentIsNotAdoptedAsAVolume) {
  Operator("bdev_crypto_create", {{"base_bdev_name", "null-" + VolumeUuid(1)},
                                  {"name", "theirs"},
                                  {"cipher", "AES_XTS"},
                                  {"key", Keys().key()},
                                  {"key2", Keys().key2()}});
  Operator("vhost_create_blk_controller", {{"ctrlr", "sma-0"}, {"dev_name", "theirs"}});
  admin::v1::AdoptDeviceRequest request;
  request.set_handle(handle_);
  request.add_volume_ids(spdk::CryptoBdevUuid(Uuid(1)).ToBytes());
  const std::string before = target_.Dump();
  const absl::Status status = core_->admin().AdoptDevice(context_, request).status();
  EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("null-" + VolumeUuid(1)));
  EXPECT_EQ(target_.Dump(), before);
  EXPECT_EQ(core_->record().device_count(), 0u);
}

}  // namespace
}  // namespace sma::core
