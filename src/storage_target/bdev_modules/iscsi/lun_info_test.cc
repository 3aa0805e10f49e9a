// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/iscsi/lun_info.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace sma::storage_target::bdev_iscsi {
namespace {

using Data = std::vector<uint8_t>;

Data CapacityData() {
  return {0, 0, 0, 0, 0, 1, 0xff, 0xff, 0, 0, 2, 0, 0, 0, 0x80, 0,
          0, 0, 0, 0, 0, 0, 0,    0,    0, 0, 0, 0, 0, 0, 0,    0};
}

void AddDesignator(Data* page, uint8_t association, uint8_t type, const std::string& bytes) {
  page->insert(page->end(), {1, static_cast<uint8_t>(association << 4 | type), 0,
                             static_cast<uint8_t>(bytes.size())});
  page->insert(page->end(), bytes.begin(), bytes.end());
  (*page)[2] = static_cast<uint8_t>((page->size() - 4) >> 8);
  (*page)[3] = static_cast<uint8_t>(page->size() - 4);
}

TEST(Capacity, IsOneMoreThanTheLastBlock) {
  auto capacity = Capacity::Parse(CapacityData());
  ASSERT_TRUE(capacity);
  EXPECT_EQ(capacity->block_count, 0x20000u);
  EXPECT_EQ(capacity->block_size, 512u);
  EXPECT_TRUE(capacity->provisioned_thinly);
}

TEST(Capacity, IsRejectedIfImplausible) {
  EXPECT_FALSE(Capacity::Parse({}));
  EXPECT_FALSE(Capacity::Parse(Bytes(CapacityData()).first(14)));
  Data no_block_size = CapacityData();
  no_block_size[10] = 0;
  EXPECT_FALSE(Capacity::Parse(no_block_size));
  Data too_many_blocks = CapacityData();
  std::fill_n(too_many_blocks.begin(), 8, uint8_t{0xff});
  EXPECT_FALSE(Capacity::Parse(too_many_blocks));
}

TEST(BlockLimits, AreReadUpToTheEndOfThePage) {
  Data page(64);
  page[1] = kPageBlockLimits;
  page[3] = 60;
  page[10] = 0x40;  // 0x4000 blocks
  page[15] = 0x80;
  page[22] = 0x10;
  page[31] = 8;
  page[43] = 0xff;
  BlockLimits limits = BlockLimits::Parse(page);
  EXPECT_EQ(limits.max_transfer, 0x4000u);
  EXPECT_EQ(limits.optimal_transfer, 0x80u);
  EXPECT_EQ(limits.max_unmap, 0x1000u);
  EXPECT_EQ(limits.optimal_unmap, 8u);
  EXPECT_EQ(limits.max_write_same, 0xffu);

  page[3] = 12;  // the length of SBC-2
  limits = BlockLimits::Parse(page);
  EXPECT_EQ(limits.max_transfer, 0x4000u);
  EXPECT_EQ(limits.max_unmap, 0u);

  page[1] = kPageProvisioning;
  EXPECT_EQ(BlockLimits::Parse(page).max_transfer, 0u);
}

TEST(Provisioning, IsReadFromItsPage) {
  EXPECT_TRUE(Provisioning::Parse(Data{0, kPageProvisioning, 0, 4, 0, 0x80, 0, 0}).unmap);
  EXPECT_TRUE(
      Provisioning::Parse(Data{0, kPageProvisioning, 0, 4, 0, 0x04, 0, 0}).unmap_reads_zero);
  EXPECT_FALSE(Provisioning::Parse(Data{0, kPageProvisioning, 0, 1, 0, 0x80}).unmap);
}

TEST(Identity, IsTheBestDesignatorOfTheUnit) {
  Data page = {0, kPageIdentification, 0, 0};
  EXPECT_EQ(ParseIdentity(page), "");
  AddDesignator(&page, 1, 3, "of the port");
  EXPECT_EQ(ParseIdentity(page), "");
  AddDesignator(&page, 0, 3, "3 locally assigned");
  EXPECT_EQ(ParseIdentity(page),
            "\x03"
            "3 locally assigned");
  AddDesignator(&page, 0, 1, "vendor");
  EXPECT_EQ(ParseIdentity(page), "\x01vendor");
  AddDesignator(&page, 0, 3, "naa");
  EXPECT_EQ(ParseIdentity(page), "\x03naa");
  AddDesignator(&page, 0, 2, "eui");
  EXPECT_EQ(ParseIdentity(page), "\x03naa");
}

TEST(Identity, EndsAtATruncatedDesignator) {
  Data page = {0, kPageIdentification, 0, 0};
  AddDesignator(&page, 0, 1, "vendor");
  AddDesignator(&page, 0, 3, "naa");
  for (size_t size = 0; size < page.size(); ++size) {
    EXPECT_NE(ParseIdentity(Bytes(page).first(size)), "\x03naa");
  }
}

TEST(Uuid, DependsOnTheUnitAndTheTarget) {
  LunInfo info;
  info.identity = "\x03naa";
  EXPECT_EQ(info.MakeUuid("iqn.a", 1), info.MakeUuid("iqn.a", 2));
  EXPECT_NE(info.MakeUuid("iqn.a", 1), info.MakeUuid("iqn.b", 1));
  LunInfo nameless;
  EXPECT_EQ(nameless.MakeUuid("iqn.a", 1), nameless.MakeUuid("iqn.a", 1));
  EXPECT_NE(nameless.MakeUuid("iqn.a", 1), nameless.MakeUuid("iqn.a", 2));
}

TEST(Inquiry, DistinguishesDisksFromOtherUnits) {
  EXPECT_TRUE(IsDisk(Data{0}));
  EXPECT_FALSE(IsDisk({}));
  EXPECT_FALSE(IsDisk(Data{0x7f}));  // no unit connected
  EXPECT_FALSE(IsDisk(Data{0x05}));  // a CD drive
}

}  // namespace
}  // namespace sma::storage_target::bdev_iscsi
