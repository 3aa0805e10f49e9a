// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/iscsi/unwritten_marks.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace sma::storage_target::bdev_iscsi {
namespace {

constexpr uint32_t kMark = 0xa5b6c7d8;

TEST(UnwrittenMarks, FindsUnwrittenWords) {
  alignas(8) std::byte memory[64]{};
  const std::vector<scsi_iovec> iovs{{memory, 16}, {memory + 32, 20}};
  PlantMarks(iovs, kMark);
  EXPECT_EQ(FindMark(iovs, kMark), 0U);
  EXPECT_EQ(FindMark(iovs, kMark + 1), std::nullopt);
  EXPECT_EQ(memory[16], std::byte{0});
  EXPECT_EQ(memory[52], std::byte{0});
  std::memset(memory, 0, 16);
  EXPECT_EQ(FindMark(iovs, kMark), 16U);
  std::memset(memory + 32, 0, 16);
  EXPECT_EQ(FindMark(iovs, kMark), 32U);
  std::memset(memory + 48, 0, 4);
  EXPECT_EQ(FindMark(iovs, kMark), std::nullopt);
}

TEST(UnwrittenMarks, BuffersNeedNotBeAligned) {
  alignas(8) std::byte memory[64]{};
  const std::vector<scsi_iovec> iovs{{memory + 1, 2}, {memory + 5, 11}, {memory + 17, 3}};
  PlantMarks(iovs, kMark);
  EXPECT_EQ(FindMark(iovs, kMark), 2U + 3U);
  for (size_t at : {0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20})
    EXPECT_EQ(memory[at], std::byte{0});
  std::memset(memory + 5, 0, 11);
  EXPECT_EQ(FindMark(iovs, kMark), std::nullopt);
}

}  // namespace
}  // namespace sma::storage_target::bdev_iscsi
