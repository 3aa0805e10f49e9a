// SPDX-License-Identifier: Apache-2.0

// Tests that neither calls nor background work change objects of other owners, even if something
// fails at an inconvenient moment.

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "agent/core/testing/remote_fixture.h"
#include "agent/probe/testing/login_portal.h"

namespace sma::core {
namespace {

using absl::StatusCode;
using jsonrpc::Request;
using spdk::Fault;
using std::chrono::milliseconds;

class OthersObjectsTest : public AgentFixture {};

// AttachVolume adopts an existing namespace of the volume's own bdev. If the call fails afterwards,
// the namespace is kept.
TEST_F(OthersObjectsTest, Defect36_ANamespaceThatWasTakenOverStaysWhenTheCallFails) {
  target_.AddBdev(VolumeUuid(1));
  ASSERT_TRUE(Create(1).ok());
  Operator("nvmf_subsystem_add_ns",
           {{"nqn", Nqn(1)},
            {"namespace", {{"bdev_name", VolumeUuid(1)}, {"uuid", VolumeUuid(1)}, {"nsid", 7}}}});
  const std::string before = target_.Dump();
  disk_->fault = [](record::Durability durability) {
    return durability == record::Durability::kHost ? absl::ResourceExhaustedError("disk full")
                                                   : absl::OkStatus();
  };
  EXPECT_EQ(Attach(Handle(1), 1).code(), StatusCode::kResourceExhausted);
  disk_->fault = nullptr;
  EXPECT_TRUE(target_.Dump() == before) << target_.Dump();
  EXPECT_EQ(core_->record().volume_count(), 0u);
  ASSERT_TRUE(Attach(Handle(1), 1).ok());
}

// The objects that CreateDevice has added to an operator's subsystem are removed, even if they
// cannot be rolled back immediately.
TEST_F(OthersObjectsTest, Defect37_ARollbackThatFailsIsRepeatedLater) {
  int number = 0;
  for (const Fault fault : {Fault::kNotSent, Fault::kDropCall, Fault::kBusy}) {
    for (const char* method : {"nvmf_subsystem_remove_ns", "nvmf_subsystem_remove_host"}) {
      ++number;
      Crash();
      Open();  // the listing does not contain the subsystem yet
      target_.AddBdev(VolumeUuid(number));
      Operator("nvmf_create_subsystem",
               {{"nqn", Nqn(number)}, {"allow_any_host", true}, {"serial_number", "OWNERS"}});
      const std::string before = target_.Dump();
      std::atomic<int> asked{0};
      target_.SetFaultPlan([&](uint64_t, const Request& request) {
        return request.method == method && asked++ == 0 ? fault : Fault::kNone;
      });
      EXPECT_FALSE(Create(number, number).ok());
      EXPECT_GE(asked, 1);
      WaitFor([&] { return target_.Dump() == before; });
      WaitFor([&] { return core_->record().device_count() == 0; });
      target_.SetFaultPlan(nullptr);
    }
  }
}

/// A device type whose devices have one volume for their lifetime.
class OneVolumeTest : public RemoteFixture {
 protected:
  class Manager : public nvmf_tcp::NvmfTcpManager {
   public:
    using NvmfTcpManager::NvmfTcpManager;
    DeviceTraits traits() const override { return {.needs_volume = needs_volume_}; }
    Outcome DetachVolume(const base::Context& /*context*/, const DeviceSpec& /*device*/,
                         const DeviceVolume& /*volume*/) override {
      return NotSupported("DetachVolume");
    }
    bool needs_volume_ = false;
  };
  std::vector<std::unique_ptr<DeviceManager>> MakeManagers() override {
    std::vector<std::unique_ptr<DeviceManager>> managers;
    managers.push_back(std::make_unique<Manager>(target_));
    manager_ = static_cast<Manager*>(managers.front().get());
    return managers;
  }
  Manager* manager_ = nullptr;
};

TEST_F(OneVolumeTest, AVolumeThatIsMissingForTooLongStaysOnItsDevice) {
  options_.detach_gone_volumes = true;
  options_.volume_cleanup_period = milliseconds(50);
  options_.watch_period = milliseconds(10);
  Crash();
  Open();
  manager_->needs_volume_ = true;
  CreateDeviceRequest request = CreateRequest(7);
  *request.mutable_volume() = Discovered(1, {"8009"}).volume();
  ASSERT_TRUE(Create(request).ok());
  spdk::FakeRemote without = RemoteA();
  without.subsystems[kRemoteNqn].clear();
  target_.SetRemote("a", without);
  WaitFor([this] {
    auto row = core_->record().FindVolume(*base::Uuid::Parse(VolumeUuid(1)));
    return row && row->last_error.message.find("volume_cleanup_period") != std::string::npos;
  });
  target_.SetRemote("a", RemoteA());
  WaitFor([this] { return Namespaces(7) == std::vector{VolumeUuid(1)}; });
  EXPECT_TRUE(Create(request).ok());
}

class IscsiNamesTest : public RemoteFixture {};

// iSCSI names are compared case-insensitively.
TEST_F(IscsiNamesTest, Defect41_SpellingsOfOneIscsiNameAreTheSameUnit) {
  auto unit = [](int device, int volume, const std::string& iqn) {
    AttachVolumeRequest request = Request(device, volume);
    iscsi::VolumeConnectionParameters& params = *request.mutable_volume()->mutable_iscsi();
    params.set_portal("127.0.0.1:3260");
    params.set_target_iqn(iqn);
    params.set_initiator_iqn("iqn.2024-01.com.example:agent");
    return request;
  };
  for (const char* iqn : {"iqn.2024-01.com.example:disks", "iqn.2024-01.com.Example:Disks"}) {
    target_.AddIscsiUnit(std::string("iscsi://127.0.0.1:3260/") + iqn + "/0");
  }
  EXPECT_TRUE(Send(unit(0, 7, "iqn.2024-01.com.example:disks")).ok());
  EXPECT_EQ(Send(unit(1, 8, "iqn.2024-01.com.Example:Disks")).code(), StatusCode::kAlreadyExists);
  EXPECT_EQ(core_->record().volume_count(), 1u);
}

class IscsiLoginTest : public IscsiNamesTest {
 protected:
  static AttachVolumeRequest Unit(const std::string& portal, const std::string& secret) {
    AttachVolumeRequest request = Request(0, 7);
    iscsi::VolumeConnectionParameters& params = *request.mutable_volume()->mutable_iscsi();
    params.set_portal(portal);
    params.set_target_iqn("iqn.2024-01.com.example:disks");
    params.set_initiator_iqn("iqn.2024-01.com.example:agent");
    params.mutable_chap()->set_user("user");
    params.mutable_chap()->set_secret(secret);
    return request;
  }
  void AddUnit(const std::string& portal, const std::string& secret) {
    target_.AddIscsiUnit("iscsi://user%" + secret + "@" + portal +
                         "/iqn.2024-01.com.example:disks/0");
  }
  /// The storage node no longer accepts this secret.
  void Refuse(const std::string& secret) {
    target_.SetFaultPlan([secret](uint64_t, const jsonrpc::Request& request) {
      const bool is_it = request.method == "bdev_iscsi_create" &&
                         request.params["url"].get<std::string>().find(secret) != std::string::npos;
      return is_it ? Fault::kRefuse : Fault::kNone;
    });
  }
};

// The client repeats its call with the new secret while the volume is still connected. A login to
// the portal shows whether the secret is correct.
TEST_F(IscsiLoginTest, AChangedSecretIsKeptIfTheNodeAcceptsIt) {
  constexpr int kAuthenticationFailure = 0x0201;
  for (const int answer : {0, kAuthenticationFailure}) {
    const probe::LoginPortal portal(answer);
    const std::string kept = answer == 0 ? "second" : "first";
    AddUnit(portal.portal(), "first");
    AddUnit(portal.portal(), "second");
    target_.SetFaultPlan(nullptr);
    ASSERT_EQ(Send(Unit(portal.portal(), "first")), absl::OkStatus());
    EXPECT_EQ(Send(Unit(portal.portal(), "second")), absl::OkStatus()) << "it is connected";
    Refuse(kept == "first" ? "second" : "first");
    target_.Restart();
    WaitFor([this] { return Namespaces(0) == std::vector{VolumeUuid(7)}; });
    ASSERT_TRUE(Detach(Handle(0), 7).ok());
  }
}

// The secret is changed on the storage node, and the client repeats its call with the new one.
TEST_F(IscsiLoginTest, AChangedSecretReplacesOneThatNoLongerWorks) {
  const std::string portal = "127.0.0.1:3260";
  auto unit = [&](const std::string& secret) { return Unit(portal, secret); };
  for (const char* secret : {"first", "second"}) AddUnit(portal, secret);
  auto refuse = [this](const std::string& secret) { Refuse(secret); };
  ASSERT_TRUE(Send(unit("first")).ok());
  refuse("first");
  EXPECT_TRUE(Send(unit("second")).ok()) << "it is connected";
  target_.Restart();
  WaitFor([&] { return Send(unit("second")).ok(); });
  EXPECT_EQ(Namespaces(0), std::vector{VolumeUuid(7)});
  // After the restart, the agent uses the new secret, which it has stored.
  target_.Restart();
  WaitFor([this] { return Namespaces(0) == std::vector{VolumeUuid(7)}; });
  // A rejected secret is not stored.
  refuse("third");
  EXPECT_TRUE(Send(unit("third")).ok()) << "it is connected";
  target_.Restart();
  WaitFor([this] { return Namespaces(0) == std::vector{VolumeUuid(7)}; });
}

}  // namespace
}  // namespace sma::core
