// SPDX-License-Identifier: Apache-2.0

#include <gtest/gtest.h>

#include <thread>

#include "agent/qmp/testing/fake_qemu.h"
#include "devices/pci_common/inventories.h"
#include "devices/pci_common/physical_id.h"
#include "devices/pci_common/place.h"
#include "devices/pci_common/unplug.h"

namespace sma::pci_common {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

TEST(PhysicalIdTest, NumbersHaveOneForm) {
  EXPECT_EQ(NameOf("sma-", 33), "sma-33");
  EXPECT_EQ(PhysicalIdOf("sma-", "sma-33"), 33u);
  EXPECT_EQ(PhysicalIdOf("sma-", "sma-4294967295"), UINT32_MAX);
  for (const char* name : {"sma-", "sma-033", "sma--1", "sma-+1", "sma-1 ", "sma-4294967296", "1"})
    EXPECT_EQ(PhysicalIdOf("sma-", name), std::nullopt) << name;
}

TEST(UnplugTest, AGuestThatHasNotReleasedADeviceIsUnderWayWhileTheCallGoesOn) {
  const base::Context context = base::Context::Background();
  const absl::Status late = absl::DeadlineExceededError("the guest has not released it");
  EXPECT_TRUE(UnplugOutcome(context, late).is_under_way());
  EXPECT_TRUE(UnplugOutcome(context, absl::OkStatus()).ok());
  EXPECT_EQ(UnplugOutcome(context, absl::InternalError("no")).status().code(),
            absl::StatusCode::kInternal);
  context.Cancel();
  EXPECT_FALSE(UnplugOutcome(context, late).is_under_way());
}

TEST(UnplugTest, AVmIsLongGoneAfterTheWait) {
  const auto now = steady_clock::now();
  EXPECT_FALSE(IsLongGone(std::nullopt, seconds(0)));
  EXPECT_FALSE(IsLongGone(now, seconds(30)));
  EXPECT_TRUE(IsLongGone(now - seconds(31), seconds(30)));
}

TEST(PlaceTest, TextIsParsed) {
  const Place place{.qmp = "unix:/run/qmp", .vm_uuid = "u", .socket = "/run/\"x\""};
  const Place parsed = ParsePlace(ToText(place));
  EXPECT_EQ(parsed.qmp, place.qmp);
  EXPECT_EQ(parsed.vm_uuid, place.vm_uuid);
  EXPECT_EQ(parsed.socket, place.socket);
  EXPECT_EQ(ToText({}), "");
  EXPECT_EQ(ToText({.qmp = {}, .vm_uuid = "u", .socket = "s"}), "");
  for (const char* text : {"", "x", "[]", "1", "{\"qmp\": 1}"}) {
    EXPECT_EQ(ParsePlace(text).qmp, "") << text;
  }
}

TEST(InventoriesTest, Defect47_AMuteVmDelaysOnlyItsOwnDevices) {
  qmp::FakeQemu healthy;
  qmp::FakeQemu mute;
  mute.Swallow("query-pci");
  auto client = [](const qmp::FakeQemu& qemu) {
    return std::make_shared<qmp::Client>(
        qmp::ClientOptions{.address = qemu.address(), .connect_wait = seconds(20)});
  };
  const std::shared_ptr<qmp::Client> good = client(healthy);
  const std::shared_ptr<qmp::Client> bad = client(mute);
  ASSERT_TRUE(qmp::Plug(*good, base::Context::WithTimeout(seconds(20)),
                        {.id = "a", .driver = "vfio-user-pci", .bus = "bus1", .slot = 0})
                  .ok());
  Inventories inventories;
  // Devices of the other VM are not delayed.
  std::thread waiting([&] {
    EXPECT_EQ(inventories.Of(base::Context::Background(), *bad).status().code(),
              absl::StatusCode::kUnavailable);
  });
  const base::Context context = base::Context::WithTimeout(seconds(20));
  auto devices = inventories.Of(context, *good);
  ASSERT_TRUE(devices.ok()) << devices.status();
  EXPECT_TRUE((*devices)->devices.contains("a"));
  EXPECT_FALSE((*devices)->devices.contains("b"));
  waiting.join();
  // The VM is queried once for all of its devices.
  const auto start = steady_clock::now();
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(inventories.Of(context, *bad).status().code(), absl::StatusCode::kUnavailable);
  }
  EXPECT_LT(steady_clock::now() - start, seconds(20));
}

}  // namespace
}  // namespace sma::pci_common
