#include "agent/qmp/hot_plug.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "agent/qmp/fake_qemu.h"
#include "jsonrpc/error.h"

namespace sma::qmp {
namespace {

using base::Context;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

class HotPlugTest : public testing::Test {
 protected:
  static PciDevice Disk(std::string id, std::string bus = "bus0") {
    return {.id = std::move(id),
            .driver = "vhost-user-blk-pci",
            .bus = std::move(bus),
            .slot = 17,
            .properties = {{"num-queues", 4}},
            .chardev_path = "/run/disk"};
  }
  void WaitForCommands(size_t count) {
    const auto until = std::chrono::steady_clock::now() + seconds(20);
    while (qemu_.commands().size() < count && std::chrono::steady_clock::now() < until) {
      std::this_thread::sleep_for(milliseconds(1));
    }
  }

  const Context context_ = Context::WithTimeout(seconds(20));
  FakeQemu qemu_;
  Client client_{{.address = qemu_.address(), .connect_wait = milliseconds(200)}};
};

TEST_F(HotPlugTest, PlugAndUnplug) {
  ASSERT_TRUE(Plug(client_, context_, Disk("a")).ok());
  EXPECT_EQ(qemu_.devices()["a"], Json::parse(R"({"id":"a","driver":"vhost-user-blk-pci",
      "bus":"bus0","addr":"0x11","num-queues":4,"chardev":"a"})"));
  EXPECT_EQ(qemu_.chardevs()["a"]["backend"], Json::parse(R"({"type":"socket","data":{
      "addr":{"type":"unix","data":{"path":"/run/disk"}},"server":false,"reconnect":1}})"));
  ASSERT_TRUE(Unplug(client_, context_, "a").ok());
  EXPECT_THAT(qemu_.devices(), IsEmpty());
  EXPECT_THAT(qemu_.chardevs(), IsEmpty());
  EXPECT_TRUE(Unplug(client_, context_, "a").ok());
}

TEST_F(HotPlugTest, NewerQemuCountsMilliseconds) {
  qemu_.SetVersion(9, 2);
  ASSERT_TRUE(Plug(client_, context_, Disk("a")).ok());
  EXPECT_EQ(qemu_.chardevs()["a"]["backend"]["data"]["reconnect-ms"], 1000);
  EXPECT_FALSE(qemu_.chardevs()["a"]["backend"]["data"].contains("reconnect"));
}

TEST_F(HotPlugTest, DeviceWithoutACharacterDevice) {
  PciDevice nvme{.id = "n", .driver = "vfio-user-pci", .bus = "bus1", .slot = 0};
  ASSERT_TRUE(Plug(client_, context_, nvme).ok());
  EXPECT_FALSE(qemu_.devices()["n"].contains("chardev"));
  EXPECT_THAT(qemu_.chardevs(), IsEmpty());
  EXPECT_TRUE(Unplug(client_, context_, "n").ok());
  EXPECT_THAT(qemu_.devices(), IsEmpty());
}

TEST_F(HotPlugTest, AgainChangesNothing) {
  ASSERT_TRUE(Plug(client_, context_, Disk("a")).ok());
  EXPECT_TRUE(Plug(client_, context_, Disk("a")).ok());
  EXPECT_EQ(qemu_.devices().size(), 1u);
  EXPECT_EQ(qemu_.chardevs().size(), 1u);
}

TEST_F(HotPlugTest, RefusedDeviceLeavesNothing) {
  const absl::Status status = Plug(client_, context_, Disk("a", "bus9"));
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("Bus 'bus9' not found"));
  EXPECT_FALSE(jsonrpc::IsFateUnknown(status));
  EXPECT_THAT(qemu_.chardevs(), IsEmpty());
}

TEST_F(HotPlugTest, OccupiedSlotKeepsItsDevice) {
  ASSERT_TRUE(Plug(client_, context_, Disk("a")).ok());
  EXPECT_FALSE(Plug(client_, context_, Disk("b")).ok());
  EXPECT_TRUE(qemu_.devices().contains("a"));
  EXPECT_EQ(qemu_.chardevs().size(), 1u);
}

TEST_F(HotPlugTest, AnswerThatDoesNotComeLeavesNothingUnknown) {
  qemu_.Swallow("device_add");
  const absl::Status status = Plug(client_, Context::WithTimeout(milliseconds(50)), Disk("a"));
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(jsonrpc::IsFateUnknown(status));
  EXPECT_TRUE(qemu_.devices().contains("a"));
}

TEST_F(HotPlugTest, QemuGoneMeansNothingWasDone) {
  qemu_.Kill();
  const absl::Status status = Plug(client_, context_, Disk("a"));
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_FALSE(jsonrpc::IsFateUnknown(status));
  EXPECT_EQ(Unplug(client_, context_, "a").code(), absl::StatusCode::kUnavailable);
}

// Native PCIe hot-plug: device_del is refused for as long as the guest is powering the slot on.
TEST_F(HotPlugTest, Defect63_ARefusalThatPassesIsWaitedFor) {
  ASSERT_TRUE(Plug(client_, context_, Disk("a")).ok());
  qemu_.Refuse("device_del", "Hot-unplug failed: guest is busy (power indicator blinking)");
  std::thread guest([&] {
    auto refused = [&] {
      const auto commands = qemu_.commands();
      return std::count(commands.begin(), commands.end(), "device_del") > 0;
    };
    while (!refused()) std::this_thread::yield();
    qemu_.Refuse("device_del", "");
  });
  EXPECT_TRUE(Unplug(client_, context_, "a").ok());
  guest.join();
  EXPECT_THAT(qemu_.devices(), IsEmpty());
}

TEST_F(HotPlugTest, Defect22_GuestFasterThanTheAnswer) {
  qemu_.SetGuest(FakeQemu::Guest::kReleasesBeforeAnswer);
  ASSERT_TRUE(Plug(client_, context_, Disk("a")).ok());
  EXPECT_TRUE(Unplug(client_, context_, "a").ok());
  EXPECT_THAT(qemu_.chardevs(), IsEmpty());
}

TEST_F(HotPlugTest, Defect23_WaitsUntilTheGuestHasReleasedIt) {
  qemu_.SetGuest(FakeQemu::Guest::kIgnores);
  ASSERT_TRUE(Plug(client_, context_, Disk("a")).ok());
  std::thread guest([&] {
    WaitForCommands(3);
    qemu_.ReleaseAll();
  });
  EXPECT_TRUE(Unplug(client_, context_, "a").ok());
  guest.join();
  EXPECT_THAT(qemu_.chardevs(), IsEmpty());
}

TEST_F(HotPlugTest, GuestThatDoesNotReleaseIt) {
  qemu_.SetGuest(FakeQemu::Guest::kIgnores);
  ASSERT_TRUE(Plug(client_, context_, Disk("a")).ok());
  for (int i = 0; i < 2; ++i) {
    const absl::Status status = Unplug(client_, Context::WithTimeout(milliseconds(50)), "a");
    EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
    EXPECT_THAT(std::string(status.message()), HasSubstr("the guest has not released device a"));
  }
  qemu_.ReleaseAll();
  EXPECT_TRUE(Unplug(client_, context_, "a").ok());
  EXPECT_THAT(qemu_.chardevs(), IsEmpty());
}

TEST_F(HotPlugTest, GuestThatRefuses) {
  qemu_.SetGuest(FakeQemu::Guest::kRefuses);
  ASSERT_TRUE(Plug(client_, context_, Disk("a")).ok());
  EXPECT_EQ(Unplug(client_, context_, "a").code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(qemu_.devices().contains("a"));
}

TEST_F(HotPlugTest, QemuThatRefusesToUnplug) {
  ASSERT_TRUE(Plug(client_, context_, Disk("a")).ok());
  qemu_.Refuse("device_del", "Bus 'bus0' does not support hotplugging");
  EXPECT_EQ(Unplug(client_, context_, "a").code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(HotPlugTest, SessionLostWhileTheGuestReleases) {
  qemu_.SetGuest(FakeQemu::Guest::kIgnores);
  ASSERT_TRUE(Plug(client_, context_, Disk("a")).ok());
  std::thread guest([&] {
    WaitForCommands(3);
    qemu_.DropClient();
    qemu_.ReleaseAll();
  });
  EXPECT_TRUE(Unplug(client_, context_, "a").ok());
  guest.join();
}

TEST_F(HotPlugTest, Defect24_DevicesAreFoundAtAnyDepth) {
  ASSERT_TRUE(Plug(client_, context_, Disk("a")).ok());
  ASSERT_TRUE(Plug(client_, context_, Disk("b", "bus1")).ok());
  for (bool booted : {true, false}) {
    qemu_.SetBooted(booted);
    auto inventory = TakeInventory(client_, context_);
    ASSERT_TRUE(inventory.ok());
    EXPECT_TRUE(inventory->devices.contains("a") && inventory->devices.contains("b"));
    EXPECT_THAT(inventory->chardevs, UnorderedElementsAre("a", "b"));
  }
  qemu_.SetBooted(true);
  qemu_.Refuse("query-chardev", "no");
  EXPECT_FALSE(TakeInventory(client_, context_).ok());
}

}  // namespace
}  // namespace sma::qmp
