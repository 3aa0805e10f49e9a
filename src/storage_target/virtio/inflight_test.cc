// SPDX-License-Identifier: Apache-2.0

#include "storage_target/virtio/inflight.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>

namespace sma::storage_target::virtio {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class InflightTest : public testing::Test {
 protected:
  static constexpr uint16_t kSize = 16;

  // Returns the requests that the next process finds if the index in the used ring is `used_index`.
  std::vector<uint16_t> Restart(uint16_t used_index) {
    return InflightQueue(region_, kSize, used_index).Outstanding();
  }
  InflightQueue Open(uint16_t used_index = 0) { return InflightQueue(region_, kSize, used_index); }

  alignas(64) std::array<std::byte, 320> region_{};
};

TEST_F(InflightTest, RegionHasHeaderAndEntries) {
  EXPECT_EQ(InflightQueue::RegionBytes(kSize), 320u);
  EXPECT_EQ(InflightQueue::RegionBytes(128), 2112u);
}

TEST_F(InflightTest, SuccessorFindsOutstandingRequestsInOrder) {
  {
    InflightQueue queue = Open();
    for (uint16_t head : {5, 3, 9, 0}) queue.Take(head);
    queue.PrepareCompletion(9);
    queue.CommitCompletions(1);
  }
  EXPECT_THAT(Restart(1), ElementsAre(5, 3, 0));
}

TEST_F(InflightTest, KeepsTheOrderAfterARestart) {
  {
    InflightQueue queue = Open();
    queue.Take(5);
    queue.Take(3);
  }
  {
    InflightQueue queue = Open();
    queue.PrepareCompletion(5);
    queue.CommitCompletions(1);
    queue.Take(1);
  }
  EXPECT_THAT(Restart(1), ElementsAre(3, 1));
}

// The process is killed before it publishes the used ring, so the driver has seen no completion.
TEST_F(InflightTest, PreparedCompletionsDoNotCountUntilPublished) {
  {
    InflightQueue queue = Open();
    queue.Take(2);
    queue.Take(4);
    queue.PrepareCompletion(4);
    queue.PrepareCompletion(2);
  }
  EXPECT_THAT(Restart(0), ElementsAre(2, 4));
}

// The process is killed between publishing the used ring and marking the requests.
TEST_F(InflightTest, PublishedCompletionsCountWithoutTheirMarks) {
  {
    InflightQueue queue = Open(0xfffe);
    for (uint16_t head : {1, 2, 3, 4}) queue.Take(head);
    queue.PrepareCompletion(1);
    queue.CommitCompletions(0xffff);
    queue.PrepareCompletion(3);
    queue.PrepareCompletion(2);
  }
  EXPECT_THAT(Restart(1), ElementsAre(4));
  EXPECT_THAT(Restart(1), ElementsAre(4)) << "again the same";
}

TEST_F(InflightTest, ReinitialisesARegionOfASmallerQueue) {
  InflightQueue small(region_, 8, 0);
  small.Take(3);
  EXPECT_THAT(Restart(0), IsEmpty());
}

TEST_F(InflightTest, SurvivesArbitraryContents) {
  std::mt19937 random(1);
  for (int i = 0; i < 2000; ++i) {
    for (std::byte& byte : region_) byte = static_cast<std::byte>(random());
    const uint16_t version = 1, count = kSize;
    std::memcpy(region_.data() + 8, &version, sizeof version);
    std::memcpy(region_.data() + 10, &count, sizeof count);
    for (uint16_t head : Restart(static_cast<uint16_t>(random()))) EXPECT_LT(head, kSize);
  }
}

}  // namespace
}  // namespace sma::storage_target::virtio
