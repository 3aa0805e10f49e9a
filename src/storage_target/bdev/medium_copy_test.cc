// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev/medium_copy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace sma::storage_target::bdev {
namespace {

// Tests every alignment within a cache line on both sides, and sizes around the thresholds. The
// surrounding bytes must stay unchanged.
TEST(MediumCopyTest, CopiesExactlyTheRequestedBytes) {
  constexpr std::byte kAround{0xee};
  std::vector<std::byte> from(5000);
  for (size_t i = 0; i < from.size(); ++i) from[i] = std::byte((i * 41 + i / 256) % 238);
  for (size_t size : {0u, 1u, 512u, 1023u, 1024u, 1025u, 1087u, 1088u, 4096u, 4133u}) {
    for (size_t shift = 0; shift < 64; shift += 3) {
      SCOPED_TRACE(testing::Message() << size << " bytes, shifted by " << shift);
      std::vector<std::byte> medium(from.size() + 128, kAround);
      const size_t at = 64 + shift;
      CopyToMedium(&medium[at], &from[shift / 2], size);
      OrderMediumCopies();
      EXPECT_TRUE(std::equal(&medium[at], &medium[at] + size, &from[shift / 2]));
      auto untouched = std::count(medium.begin(), medium.end(), kAround);
      EXPECT_EQ(static_cast<size_t>(untouched), medium.size() - size);
    }
  }
}

}  // namespace
}  // namespace sma::storage_target::bdev
