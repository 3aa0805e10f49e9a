// SPDX-License-Identifier: Apache-2.0

#include "agent/qmp/hot_plug.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <thread>

#include "agent/qmp/testing/fake_qemu.h"
#include "jsonrpc/error.h"

namespace sma::qmp {
namespace {

using base::Context;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Key;
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
  void WaitForCommand(const std::string& name) {
    const auto until = std::chrono::steady_clock::now() + seconds(20);
    auto is_there = [&] {
      const std::vector<std::string> commands = qemu_.commands();
      return std::count(commands.begin(), commands.end(), name) > 0;
    };
    while (!is_there() && std::chrono::steady_clock::now() < until) {
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
  ASSERT_TRUE(Unplug(client_, context_, Disk("a")).ok());
  EXPECT_THAT(qemu_.devices(), IsEmpty());
  EXPECT_THAT(qemu_.chardevs(), IsEmpty());
  EXPECT_TRUE(Unplug(client_, context_, Disk("a")).ok());
}

TEST_F(HotPlugTest, NewerQemuTakesMilliseconds) {
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
  EXPECT_TRUE(Unplug(client_, context_, nvme).ok());
  EXPECT_THAT(qemu_.devices(), IsEmpty());
}

TEST_F(HotPlugTest, PlugIsIdempotent) {
  ASSERT_TRUE(Plug(client_, context_, Disk("a")).ok());
  EXPECT_TRUE(Plug(client_, context_, Disk("a")).ok());
  EXPECT_EQ(qemu_.devices().size(), 1u);
  EXPECT_EQ(qemu_.chardevs().size(), 1u);
}

TEST_F(HotPlugTest, RefusedDeviceIsRolledBack) {
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

TEST_F(HotPlugTest, MissingAnswerLeavesTheOutcomeUnknown) {
  qemu_.Swallow("device_add");
  const Context context = Context::Background();
  auto plugged = std::async(std::launch::async, [&] { return Plug(client_, context, Disk("a")); });
  while (!qemu_.devices().contains("a")) std::this_thread::yield();
  context.Cancel();
  const absl::Status status = plugged.get();
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(jsonrpc::IsFateUnknown(status));
  EXPECT_TRUE(qemu_.devices().contains("a"));
}

TEST_F(HotPlugTest, UnreachableQemuMeansNothingWasDone) {
  qemu_.Kill();
  const absl::Status status = Plug(client_, context_, Disk("a"));
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_FALSE(jsonrpc::IsFateUnknown(status));
  EXPECT_EQ(Unplug(client_, context_, Disk("a")).code(), absl::StatusCode::kUnavailable);
}

// With native PCIe hot-plug, device_del is refused while the guest is powering on the slot.
TEST_F(HotPlugTest, Defect63_ATemporaryRefusalIsRetried) {
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
  EXPECT_TRUE(Unplug(client_, context_, Disk("a")).ok());
  guest.join();
  EXPECT_THAT(qemu_.devices(), IsEmpty());
}

TEST_F(HotPlugTest, Defect22_GuestFasterThanTheAnswer) {
  qemu_.SetGuest(FakeQemu::Guest::kReleasesBeforeAnswer);
  ASSERT_TRUE(Plug(client_, context_, Disk("a")).ok());
  EXPECT_TRUE(Unplug(client_, context_, Disk("a")).ok());
  EXPECT_THAT(qemu_.chardevs(), IsEmpty());
}

TEST_F(HotPlugTest, Defect23_WaitsUntilTheGuestHasReleasedIt) {
  qemu_.SetGuest(FakeQemu::Guest::kIgnores);
  ASSERT_TRUE(Plug(client_, context_, Disk("a")).ok());
  std::thread guest([&] {
    WaitForCommand("device_del");
    qemu_.ReleaseAll();
  });
  EXPECT_TRUE(Unplug(client_, context_, Disk("a")).ok());
  guest.join();
  EXPECT_THAT(qemu_.chardevs(), IsEmpty());
}

TEST_F(HotPlugTest, GuestThatDoesNotReleaseIt) {
  qemu_.SetGuest(FakeQemu::Guest::kIgnores);
  ASSERT_TRUE(Plug(client_, context_, Disk("a")).ok());
  for (int i = 0; i < 2; ++i) {
    const absl::Status status = Unplug(client_, Context::WithTimeout(milliseconds(50)), Disk("a"));
    EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
    EXPECT_THAT(std::string(status.message()), HasSubstr("the guest has not released device a"));
  }
  qemu_.ReleaseAll();
  EXPECT_TRUE(Unplug(client_, context_, Disk("a")).ok());
  EXPECT_THAT(qemu_.chardevs(), IsEmpty());
}

TEST_F(HotPlugTest, GuestThatRefuses) {
  qemu_.SetGuest(FakeQemu::Guest::kRefuses);
  ASSERT_TRUE(Plug(client_, context_, Disk("a")).ok());
  EXPECT_EQ(Unplug(client_, context_, Disk("a")).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(qemu_.devices().contains("a"));
}

TEST_F(HotPlugTest, QemuThatRefusesToUnplug) {
  ASSERT_TRUE(Plug(client_, context_, Disk("a")).ok());
  qemu_.Refuse("device_del", "Bus 'bus0' does not support hotplugging");
  EXPECT_EQ(Unplug(client_, context_, Disk("a")).code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(HotPlugTest, SessionLostWhileTheGuestReleases) {
  qemu_.SetGuest(FakeQemu::Guest::kIgnores);
  ASSERT_TRUE(Plug(client_, context_, Disk("a")).ok());
  std::thread guest([&] {
    WaitForCommand("device_del");
    qemu_.DropClient();
    qemu_.ReleaseAll();
  });
  EXPECT_TRUE(Unplug(client_, context_, Disk("a")).ok());
  guest.join();
}

TEST_F(HotPlugTest, Defect24_DevicesAreFoundAtAnyDepth) {
  ASSERT_TRUE(Plug(client_, context_, Disk("a")).ok());
  ASSERT_TRUE(Plug(client_, context_, Disk("b", "bus1")).ok());
  for (bool booted : {true, false}) {
    qemu_.SetBooted(booted);
    auto inventory = GetInventory(client_, context_);
    ASSERT_TRUE(inventory.ok());
    EXPECT_TRUE(inventory->devices.contains("a") && inventory->devices.contains("b"));
    EXPECT_THAT(inventory->chardevs, UnorderedElementsAre(Key("a"), Key("b")));
  }
  qemu_.SetBooted(true);
  qemu_.Refuse("query-chardev", "no");
  EXPECT_FALSE(GetInventory(client_, context_).ok());
}

// QEMU does not show the path of a connected character device in its list.
TEST_F(HotPlugTest, TheSocketOfACharacterDeviceIsKnown) {
  ASSERT_TRUE(Plug(client_, context_, Disk("a")).ok());
  for (bool connected : {true, false}) {
    qemu_.SetConnected(connected);
    auto inventory = GetInventory(client_, context_);
    ASSERT_TRUE(inventory.ok());
    EXPECT_EQ(inventory->chardevs["a"], "/run/disk");
    EXPECT_EQ(inventory->devices["a"].driver, "vhost-user-blk-pci");
    EXPECT_EQ(inventory->devices["a"].chardev, "a");
    EXPECT_EQ(FindDevice(*inventory, Disk("a")), Presence::kSame);
    EXPECT_EQ(FindDevice(*inventory, Disk("b")), Presence::kAbsent);
  }
}

TEST_F(HotPlugTest, ACharacterDeviceOfAnotherClientIsNotUsed) {
  for (bool connected : {true, false}) {
    qemu_.SetConnected(connected);
    qemu_.AddChardevByHand("a", "/run/other/a");
    const absl::Status status = Plug(client_, context_, Disk("a"));
    EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists) << status;
    EXPECT_FALSE(jsonrpc::IsFateUnknown(status));
    EXPECT_THAT(qemu_.devices(), IsEmpty());
    EXPECT_TRUE(Unplug(client_, context_, Disk("a")).ok());
    EXPECT_THAT(qemu_.chardevs(), ElementsAre(Key("a")));
  }
}

TEST_F(HotPlugTest, ACharacterDeviceThatAnEarlierCallLeftIsUsed) {
  qemu_.AddChardevByHand("a", "/run/disk");
  ASSERT_TRUE(Plug(client_, context_, Disk("a")).ok());
  EXPECT_TRUE(qemu_.HasDevice("a"));
  qemu_.RemoveByHand("a");
  EXPECT_TRUE(Unplug(client_, context_, Disk("a")).ok());
  EXPECT_THAT(qemu_.chardevs(), IsEmpty());
}

// Another driver, another character device, and another socket behind the same id.
TEST_F(HotPlugTest, ADeviceOfAnotherClientIsNeitherUsedNorUnplugged) {
  Json disk{{"id", "a"}, {"driver", "vhost-user-blk-pci"}, {"bus", "bus0"}, {"addr", "0x1"}};
  Json card{{"id", "a"}, {"driver", "virtio-net-pci"}, {"bus", "bus0"}, {"addr", "0x1"}};
  Json elsewhere = disk;
  elsewhere["chardev"] = "b";
  disk["chardev"] = "a";
  for (const Json& theirs : {disk, card, elsewhere}) {
    FakeQemu qemu;
    Client client({.address = qemu.address(), .connect_wait = seconds(20)});
    qemu.AddDeviceByHand(theirs);
    qemu.AddChardevByHand("b", "/run/disk");
    if (theirs == disk) qemu.AddChardevByHand("a", "/run/other/a");
    const auto chardevs = qemu.chardevs();
    EXPECT_EQ(Plug(client, context_, Disk("a")).code(), absl::StatusCode::kAlreadyExists);
    EXPECT_TRUE(Unplug(client, context_, Disk("a")).ok());
    EXPECT_EQ(qemu.devices()["a"], theirs);
    EXPECT_EQ(qemu.chardevs(), chardevs) << theirs;
  }
}

TEST_F(HotPlugTest, TheUuidOfTheVmIsKnown) {
  Plugged plugged;
  ASSERT_TRUE(Plug(client_, context_, Disk("a"), &plugged).ok());
  EXPECT_EQ(plugged.vm_uuid, "") << "QEMU's UUID is not set";
  qemu_.SetUuid("00000001-0000-0000-0000-000000000000");
  ASSERT_TRUE(Plug(client_, context_, Disk("a"), &plugged).ok());
  EXPECT_TRUE(plugged.was_there);
  EXPECT_EQ(plugged.vm_uuid, "00000001-0000-0000-0000-000000000000");
  EXPECT_EQ(GetInventory(client_, context_)->vm_uuid, plugged.vm_uuid);
}

}  // namespace
}  // namespace sma::qmp
