// SPDX-License-Identifier: Apache-2.0

#include "storage_target/virtio/packed_inflight.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>

namespace sma::storage_target::virtio {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class PackedInflightTest : public testing::Test {
 protected:
  static constexpr uint16_t kSize = 8;
  using Region = std::array<std::byte, 320>;

  PackedRing Ring() { return {.size = kSize, .descriptors = descriptors_.data()}; }
  PackedInflight Open(bool ignore_inflight = false) {
    return PackedInflight(region_, Ring(), {.index = 5, .wrap = false}, ignore_inflight);
  }
  // Returns the buffer IDs that the next process resubmits.
  std::vector<uint16_t> Restart() {
    std::vector<uint16_t> ids;
    PackedInflight queue = Open();
    EXPECT_TRUE(queue.recovered());
    for (const auto& request : queue.TakeOutstanding()) ids.push_back(request.id);
    next_used_ = queue.next_used();
    return ids;
  }
  void Take(PackedInflight& queue, uint16_t id, uint16_t count) {
    std::vector<PackedDescriptor> chain;
    for (uint16_t i = 0; i < count; ++i) {
      chain.push_back({.address = id * 100u + i, .size_bytes = i, .id = id, .flags = 1});
      descriptors_[position_.index].flags = AvailableState(position_.wrap);
      position_ = position_.Plus(1, kSize);
    }
    queue.Take(id, chain);
  }
  // Marks the descriptor as used, as the ring does in a publication.
  void MarkUsed(PackedPosition position) {
    descriptors_[position.index].flags = UsedState(position.wrap);
  }

  alignas(64) Region region_{};
  std::array<PackedDescriptor, kSize> descriptors_{};
  PackedPosition position_{.index = 5, .wrap = false};  // position of the next available descriptor
  PackedPosition next_used_;
};

TEST_F(PackedInflightTest, RegionHasHeaderAndEntries) {
  EXPECT_EQ(PackedInflight::RegionBytes(kSize), 320u);
  EXPECT_EQ(PackedInflight::RegionBytes(128), 32u + 128 * 32 + 32);
}

TEST_F(PackedInflightTest, ANewRegionStartsAtTheGivenPosition) {
  PackedInflight queue = Open();
  EXPECT_FALSE(queue.recovered());
  EXPECT_EQ(queue.next_used(), (PackedPosition{.index = 5, .wrap = false}));
  EXPECT_THAT(queue.TakeOutstanding(), IsEmpty());
}

TEST_F(PackedInflightTest, SuccessorFindsOutstandingRequestsInOrder) {
  {
    PackedInflight queue = Open();
    Take(queue, 6, 1);
    Take(queue, 2, 3);
    Take(queue, 7, 2);
    queue.PrepareCompletion(6);
    queue.BeginPublication({.index = 6, .wrap = false});
    MarkUsed({.index = 5, .wrap = false});
    queue.CommitCompletions();
    Take(queue, 6, 1);
  }
  PackedInflight queue = Open();
  const auto requests = queue.TakeOutstanding();
  ASSERT_EQ(requests.size(), 3u);
  EXPECT_EQ(requests[0].id, 2);
  EXPECT_EQ(requests[1].id, 7);
  EXPECT_EQ(requests[2].id, 6);
  ASSERT_EQ(requests[0].descriptors.size(), 3u);
  EXPECT_EQ(requests[0].descriptors[1].address, 201u);
  EXPECT_EQ(requests[0].descriptors[2].size_bytes, 2u);
  EXPECT_EQ(requests[0].descriptors[2].flags, 1);
  EXPECT_EQ(queue.next_used(), (PackedPosition{.index = 6, .wrap = false}));
  EXPECT_THAT(Restart(), ElementsAre(2, 7, 6)) << "again the same";
}

// The process is killed before it writes the ring, so the driver has seen no completion.
TEST_F(PackedInflightTest, CompletionsDoNotCountUntilPublished) {
  {
    PackedInflight queue = Open();
    Take(queue, 1, 2);
    Take(queue, 3, 4);
    queue.PrepareCompletion(3);
    queue.PrepareCompletion(1);
    queue.BeginPublication({.index = 3, .wrap = true});
  }
  EXPECT_THAT(Restart(), ElementsAre(1, 3));
  EXPECT_EQ(next_used_, (PackedPosition{.index = 5, .wrap = false}));
}

// The process is killed after publishing completions and before recording that; the driver may have
// continued in the meantime.
TEST_F(PackedInflightTest, PublishedCompletionsCount) {
  {
    PackedInflight queue = Open();
    Take(queue, 1, 2);
    Take(queue, 3, 4);
    Take(queue, 4, 1);
    queue.PrepareCompletion(3);
    queue.PrepareCompletion(1);
    queue.BeginPublication({.index = 3, .wrap = true});
  }
  const Region before = region_;
  MarkUsed({.index = 5, .wrap = false});
  EXPECT_THAT(Restart(), ElementsAre(4));
  EXPECT_EQ(next_used_, (PackedPosition{.index = 3, .wrap = true}));
  region_ = before;
  descriptors_[5].flags = AvailableState(true);  // made available again, one lap later
  EXPECT_THAT(Restart(), ElementsAre(4));
}

// A publication of the whole ring ends at its start position, with an inverted wrap counter.
TEST_F(PackedInflightTest, PublishesAWholeLap) {
  for (bool published : {false, true}) {
    region_ = {};
    position_ = {.index = 5, .wrap = false};
    {
      PackedInflight queue = Open();
      for (uint16_t id = 0; id < kSize; ++id) Take(queue, id, 1);
      for (uint16_t id = 0; id < kSize; ++id) queue.PrepareCompletion(id);
      queue.BeginPublication({.index = 5, .wrap = true});
    }
    if (published) MarkUsed({.index = 5, .wrap = false});
    EXPECT_EQ(Restart().size(), published ? 0u : 8u);
    EXPECT_EQ(next_used_, (PackedPosition{.index = 5, .wrap = published}));
  }
}

// Executes random operations, interrupted after each of the three steps of a publication and
// between publications, and compares the state with a set of IDs.
TEST_F(PackedInflightTest, NoRequestIsLostOrRepeatedWhereverItEnds) {
  std::mt19937 random(7);
  auto queue = std::make_unique<PackedInflight>(region_, Ring(), position_, false);
  std::vector<std::pair<uint16_t, uint16_t>>
      taken;  // IDs in the order in which they were taken, with their descriptor counts
  uint16_t in_flight = 0;
  PackedPosition used = position_;
  for (int i = 0; i < 20000; ++i) {
    const auto count = static_cast<uint16_t>(1 + random() % 3);
    uint16_t id = static_cast<uint16_t>(random() % kSize);
    const bool is_taken = std::ranges::count(taken, id, &std::pair<uint16_t, uint16_t>::first) > 0;
    if (in_flight + count <= kSize && !is_taken) {
      Take(*queue, id, count);
      taken.emplace_back(id, count);
      in_flight = static_cast<uint16_t>(in_flight + count);
    } else if (!taken.empty()) {
      const auto before = taken;
      std::ranges::shuffle(taken, random);
      const size_t answers = 1 + random() % taken.size();
      std::vector<std::pair<uint16_t, uint16_t>> left = before;
      PackedPosition next = used;
      for (size_t j = 0; j < answers; ++j) {
        queue->PrepareCompletion(taken[j].first);
        next = next.Plus(taken[j].second, kSize);
        std::erase(left, taken[j]);
      }
      const uint32_t end_after = random() % 4;
      if (end_after > 0) queue->BeginPublication(next);
      if (end_after > 1) MarkUsed(used);
      if (end_after > 2) queue->CommitCompletions();
      taken = end_after > 1 ? left : before;
      if (end_after > 1) used = next;
      in_flight = 0;
      for (const auto& [other, descriptors] : taken) {
        in_flight = static_cast<uint16_t>(in_flight + descriptors);
      }
      queue = std::make_unique<PackedInflight>(region_, Ring(), PackedPosition{}, false);
      ASSERT_TRUE(queue->recovered());
      ASSERT_EQ(queue->next_used(), used);
      const auto again = queue->TakeOutstanding();
      ASSERT_EQ(again.size(), taken.size());
      for (size_t j = 0; j < again.size(); ++j) {
        ASSERT_EQ(again[j].id, taken[j].first);
        ASSERT_EQ(again[j].descriptors.size(), taken[j].second);
      }
    }
  }
}

TEST_F(PackedInflightTest, IgnoresTheRegionOnRequest) {
  {
    PackedInflight queue = Open();
    Take(queue, 1, 2);
  }
  PackedInflight queue = Open(/*ignore_inflight=*/true);
  EXPECT_FALSE(queue.recovered());
  EXPECT_THAT(queue.TakeOutstanding(), IsEmpty());
  EXPECT_THAT(Restart(), IsEmpty());
}

TEST_F(PackedInflightTest, SurvivesArbitraryContents) {
  std::mt19937 random(1);
  Region good;
  {
    PackedInflight queue = Open();
    Take(queue, 1, 3);
    Take(queue, 6, 1);
    good = region_;
  }
  for (int i = 0; i < 20000; ++i) {
    region_ = good;
    const int changes = i % 2 == 0 ? 320 : 3;
    for (int j = 0; j < changes; ++j) {
      const size_t at = 12 + random() % (region_.size() - 12);
      region_[at] = static_cast<std::byte>(i % 3 == 0 ? random() % 9 : random());
    }
    PackedInflight queue = Open();
    EXPECT_LT(queue.next_used().index, kSize);
    size_t descriptors = 0;
    std::vector<bool> seen(kSize);
    for (const auto& request : queue.TakeOutstanding()) {
      ASSERT_LT(request.id, kSize);
      EXPECT_FALSE(seen[request.id]);
      seen[request.id] = true;
      descriptors += request.descriptors.size();
      queue.PrepareCompletion(request.id);
    }
    EXPECT_LE(descriptors, kSize);
    queue.BeginPublication(queue.next_used());
    queue.CommitCompletions();
    for (uint16_t id = 0; id < kSize; ++id) Take(queue, id, 1);
  }
}

}  // namespace
}  // namespace sma::storage_target::virtio
