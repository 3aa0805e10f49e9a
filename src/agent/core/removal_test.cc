// SPDX-License-Identifier: Apache-2.0

// Tests devices that their user must release before they can be removed.

#include <gtest/gtest.h>

#include <atomic>

#include "agent/core/testing/agent_fixture.h"
#include "sma/outcome.h"

namespace sma::core {
namespace {

/// A device type whose devices are not released while `held` is true.
class HeldManager : public nvmf_tcp::NvmfTcpManager {
 public:
  HeldManager(jsonrpc::Caller& target, std::atomic<bool>& held, std::atomic<int>& asked)
      : NvmfTcpManager(target), held_(held), asked_(asked) {}

  Outcome DeleteDevice(const base::Context& context, const DeviceSpec& device,
                       std::span<const DeviceVolume> volumes) override {
    ++asked_;
    if (held_) return Outcome::UnderWay(absl::UnavailableError("is held"));
    return NvmfTcpManager::DeleteDevice(context, device, volumes);
  }

 private:
  std::atomic<bool>& held_;
  std::atomic<int>& asked_;
};

class PendingRemovalTest : public AgentFixture {};

// The error must not suggest to the caller that the removal will not happen.
TEST_F(PendingRemovalTest, AnErrorOfARemovalThatWillBeFinishedSaysSo) {
  target_.AddBdev(VolumeUuid(1));
  ASSERT_TRUE(Create(1, 1).ok());
  ASSERT_TRUE(Create(2).ok());
  target_.SetFaultPlan([](uint64_t, const jsonrpc::Request&) { return spdk::Fault::kNotSent; });
  for (const absl::Status& status : {Detach(Handle(1), 1), Delete(Handle(2))}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
    EXPECT_NE(status.message().find("will be finished in the background"), std::string::npos)
        << status;
  }
  target_.SetFaultPlan(nullptr);
  WaitFor([&] { return core_->record().volume_count() == 0 && Subsystem(2).is_null(); });
  EXPECT_EQ(Delete("x:y").message().find("background"), std::string::npos);
}

class RemovalTest : public AgentFixture {
 protected:
  void SetUp() override {
    AgentFixture::SetUp();
    for (int volume : {1, 2}) target_.AddBdev(VolumeUuid(volume));
  }
  std::vector<std::unique_ptr<DeviceManager>> MakeManagers() override {
    std::vector<std::unique_ptr<DeviceManager>> managers;
    managers.push_back(std::make_unique<HeldManager>(target_, held_, asked_));
    return managers;
  }
  // Returns true if the volume cannot be attached elsewhere: it is attached or being detached.
  static bool IsKeptFrom(const absl::Status& other) {
    return absl::IsAlreadyExists(other) || absl::IsUnavailable(other);
  }
  void ExpectStillInUse() {
    EXPECT_EQ(Namespaces(1), std::vector<std::string>{VolumeUuid(1)});
    EXPECT_TRUE(IsKeptFrom(Create(2, 1)));
    EXPECT_EQ(Create(1, 2).code(), absl::StatusCode::kUnavailable);
    EXPECT_TRUE(IsKeptFrom(Attach(Handle(3), 1)));
    EXPECT_TRUE(Delete(Handle(1)).ok()) << "again";
    EXPECT_TRUE(Subsystem(2).is_null());
  }

  std::atomic<bool> held_{false};
  std::atomic<int> asked_{0};
};

TEST_F(RemovalTest, IsAnsweredAndItsVolumeStaysReservedUntilItEnds) {
  ASSERT_TRUE(Create(1, 1).ok());
  ASSERT_TRUE(Create(3).ok());
  held_ = true;
  EXPECT_TRUE(Delete(Handle(1)).ok());
  ExpectStillInUse();
  held_ = false;
  WaitFor([this] { return Subsystem(1).is_null(); });
  WaitFor([this] { return Create(2, 1).ok(); });
  EXPECT_EQ(Namespaces(2), std::vector<std::string>{VolumeUuid(1)});
}

TEST_F(RemovalTest, ContinuesAfterARestart) {
  ASSERT_TRUE(Create(1, 1).ok());
  ASSERT_TRUE(Create(3).ok());
  held_ = true;
  ASSERT_TRUE(Delete(Handle(1)).ok());
  Crash();
  Open();
  ExpectStillInUse();
  Crash();
  asked_ = 0;
  held_ = false;
  Open();
  WaitFor([this] { return Subsystem(1).is_null(); });
  EXPECT_GT(asked_, 0);
  EXPECT_TRUE(Create(2, 1).ok());
}

// A removal that was reported as successful survives a crash of the host.
TEST_F(RemovalTest, IsRecordedBeforeItIsAnswered) {
  ASSERT_TRUE(Create(1, 1).ok());
  held_ = true;
  disk_->fault = [](record::Durability durability) {
    return durability == record::Durability::kHost ? absl::ResourceExhaustedError("disk full")
                                                   : absl::OkStatus();
  };
  EXPECT_EQ(Delete(Handle(1)).code(), absl::StatusCode::kResourceExhausted);
  disk_->fault = nullptr;
  EXPECT_TRUE(Delete(Handle(1)).ok());
}

// CreateDevice is refused because of an operator's subsystem, and the objects that it added there
// cannot be rolled back at once: they are removed later.
TEST_F(RemovalTest, Defect37_LeftoversOfARefusedCreateAreRemovedLater) {
  int number = 7;
  for (const char* method : {"nvmf_subsystem_remove_ns", "nvmf_subsystem_remove_host",
                             "nvmf_subsystem_remove_listener"}) {
    // The agent is restarted each time, so that its cached list of subsystems does not contain the
    // operator's. An agent that has listed the subsystems again after a lost connection may know
    // the operator's subsystem, and would not try to create the device.
    Crash();
    Open();
    target_.AddBdev(VolumeUuid(number));
    Operator("nvmf_create_subsystem",
             {{"nqn", Nqn(number)}, {"allow_any_host", true}, {"serial_number", "OPERATOR"}});
    const std::string before = target_.Dump();
    std::atomic<int> faults = 0;
    target_.SetFaultPlan([&](uint64_t, const jsonrpc::Request& request) {
      return request.method == method && faults++ == 0 ? spdk::Fault::kNotSent : spdk::Fault::kNone;
    });
    EXPECT_EQ(Create(number, number).code(), absl::StatusCode::kAlreadyExists) << method;
    WaitFor([&] { return target_.Dump() == before; });
    WaitFor([&] { return !core_->record().FindDevice(Handle(number)); });
    EXPECT_GE(faults, 1) << method;
    target_.SetFaultPlan(nullptr);
    ++number;
  }
}

}  // namespace
}  // namespace sma::core
