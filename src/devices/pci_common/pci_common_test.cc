#include <gtest/gtest.h>

#include "agent/qmp/fake_qemu.h"
#include "devices/pci_common/inventories.h"
#include "devices/pci_common/physical_id.h"

namespace sma::pci_common {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

TEST(PhysicalIdTest, HasOneForm) {
  EXPECT_EQ(NameOf("sma-", 33), "sma-33");
  EXPECT_EQ(PhysicalIdOf("sma-", "sma-33"), 33u);
  EXPECT_EQ(PhysicalIdOf("sma-", "sma-4294967295"), UINT32_MAX);
  for (const char* name : {"sma-", "sma-033", "sma--1", "sma-+1", "sma-1 ", "sma-4294967296", "1"})
    EXPECT_EQ(PhysicalIdOf("sma-", name), std::nullopt) << name;
}

TEST(InventoriesTest, Defect47_AMuteVmDelaysNoOtherForLong) {
  qmp::FakeQemu healthy;
  qmp::FakeQemu mute;
  mute.Swallow("query-pci");
  auto client = [](const qmp::FakeQemu& qemu) {
    return std::make_shared<qmp::Client>(
        qmp::ClientOptions{.address = qemu.address(), .connect_wait = milliseconds(500)});
  };
  const std::shared_ptr<qmp::Client> good = client(healthy);
  const std::shared_ptr<qmp::Client> bad = client(mute);
  ASSERT_TRUE(qmp::Plug(*good, base::Context::WithTimeout(seconds(20)),
                        {.id = "a", .driver = "vfio-user-pci", .bus = "bus1", .slot = 0})
                  .ok());
  const qmp::Buses buses({{.name = "bus0", .machine = bad}, {.name = "bus1", .machine = good}},
                         /*plugs=*/true);
  const auto start = steady_clock::now();
  const Inventories inventories = Inventories::Take(base::Context::Background(), buses);
  EXPECT_LT(steady_clock::now() - start, seconds(5));
  EXPECT_EQ(*inventories.IsPlugged(*good, "a"), true);
  EXPECT_EQ(*inventories.IsPlugged(*good, "b"), false);
  EXPECT_EQ(inventories.IsPlugged(*bad, "a").status().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace sma::pci_common
