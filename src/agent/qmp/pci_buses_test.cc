// SPDX-License-Identifier: Apache-2.0

#include "agent/qmp/pci_buses.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sma::qmp {
namespace {

using testing::SizeIs;

const Address kFirst{.host = "127.0.0.1", .port = 1, .path = ""};
const Address kSecond{.host = "", .port = 0, .path = "/run/qmp"};

TEST(VmClientsTest, OneClientForEachAddress) {
  VmClients vms;
  EXPECT_EQ(vms.At(kFirst), vms.At(kFirst));
  EXPECT_NE(vms.At(kFirst), vms.At(kSecond));
}

TEST(BusesTest, PhysicalIdsCountTheSlotsOfAllBuses) {
  VmClients vms;
  const Buses buses({{"a", 32, vms.At(kFirst)},
                     {"b", 1, vms.At(kFirst)},
                     {"none", 0, vms.At(kFirst)},
                     {"c", 2, vms.At(kSecond)}},
                    true);
  struct Case {
    uint32_t id;
    const char* bus;
    uint32_t slot;
  };
  for (const Case& c : {Case{0, "a", 0}, {31, "a", 31}, {32, "b", 0}, {33, "c", 0}, {34, "c", 1}}) {
    auto place = buses.Find(c.id);
    ASSERT_TRUE(place.ok()) << c.id;
    EXPECT_EQ(place->bus, c.bus);
    EXPECT_EQ(place->slot, c.slot);
  }
  EXPECT_EQ(buses.Find(34)->vm, vms.At(kSecond));
  EXPECT_TRUE(absl::IsInvalidArgument(buses.Find(35).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(buses.Find(UINT32_MAX).status()));
  EXPECT_THAT(buses.vms(), SizeIs(2));
}

TEST(BusesTest, WithoutBuses) {
  EXPECT_TRUE(Buses({}, false).Find(99).ok());
  EXPECT_EQ(Buses({}, false).Find(99)->vm, nullptr);
  EXPECT_TRUE(absl::IsInvalidArgument(Buses({}, true).Find(0).status()));
}

}  // namespace
}  // namespace sma::qmp
