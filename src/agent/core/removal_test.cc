// Devices that somebody has to let go of before they can be removed.

#include <gtest/gtest.h>

#include <atomic>

#include "agent/core/agent_fixture.h"
#include "sma/outcome.h"

namespace sma::core {
namespace {

/// A device type whose devices are not let go of for as long as `held` is true.
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
  // It has the volume, or is about to let go of it.
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

TEST_F(RemovalTest, IsAnsweredAndItsVolumeIsKeptFromOthersUntilItEnds) {
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

TEST_F(RemovalTest, GoesOnAfterARestart) {
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

// What is answered with success outlives the host.
TEST_F(RemovalTest, IsWrittenDownBeforeItIsAnswered) {
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

}  // namespace
}  // namespace sma::core
