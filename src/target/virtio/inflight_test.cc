#include "target/virtio/inflight.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>

namespace sma::target::virtio {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class InflightTest : public testing::Test {
 protected:
  static constexpr uint16_t kSize = 16;

  // What a successor finds when the used ring's index is `used_index`.
  std::vector<uint16_t> Restart(uint16_t used_index) {
    return InflightQueue(region_, kSize, used_index).Unanswered();
  }
  InflightQueue Open(uint16_t used_index = 0) { return InflightQueue(region_, kSize, used_index); }

  alignas(64) std::array<std::byte, 320> region_{};
};

TEST_F(InflightTest, RegionHasHeaderAndEntries) {
  EXPECT_EQ(InflightQueue::RegionBytes(kSize), 320u);
  EXPECT_EQ(InflightQueue::RegionBytes(128), 2112u);
}

TEST_F(InflightTest, SuccessorFindsWhatWasTakenInOrder) {
  {
    InflightQueue queue = Open();
    for (uint16_t head : {5, 3, 9, 0}) queue.Take(head);
    queue.PrepareAnswer(9);
    queue.CommitAnswers(1);
  }
  EXPECT_THAT(Restart(1), ElementsAre(5, 3, 0));
}

TEST_F(InflightTest, OrderGoesOnAfterARestart) {
  {
    InflightQueue queue = Open();
    queue.Take(5);
    queue.Take(3);
  }
  {
    InflightQueue queue = Open();
    queue.PrepareAnswer(5);
    queue.CommitAnswers(1);
    queue.Take(1);
  }
  EXPECT_THAT(Restart(1), ElementsAre(3, 1));
}

// Killed before the used ring was published: the driver saw no answer.
TEST_F(InflightTest, PreparedAnswersDoNotCountUntilPublished) {
  {
    InflightQueue queue = Open();
    queue.Take(2);
    queue.Take(4);
    queue.PrepareAnswer(4);
    queue.PrepareAnswer(2);
  }
  EXPECT_THAT(Restart(0), ElementsAre(2, 4));
}

// Killed between publication and the marks.
TEST_F(InflightTest, PublishedAnswersCountWithoutTheirMarks) {
  {
    InflightQueue queue = Open(0xfffe);
    for (uint16_t head : {1, 2, 3, 4}) queue.Take(head);
    queue.PrepareAnswer(1);
    queue.CommitAnswers(0xffff);
    queue.PrepareAnswer(3);
    queue.PrepareAnswer(2);
  }
  EXPECT_THAT(Restart(1), ElementsAre(4));
  EXPECT_THAT(Restart(1), ElementsAre(4)) << "again the same";
}

TEST_F(InflightTest, ARegionForASmallerQueueIsBegunAnew) {
  InflightQueue small(region_, 8, 0);
  small.Take(3);
  EXPECT_THAT(Restart(0), IsEmpty());
}

TEST_F(InflightTest, AnyContentIsSurvived) {
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
}  // namespace sma::target::virtio
