// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvmf/tcp/placement.h"

#include <gtest/gtest.h>

#include <array>

namespace sma::storage_target::nvmf::tcp {
namespace {

constexpr uint64_t kSecond = 1'000'000'000;

TEST(PlacementTest, DistributesHostsWithOneIoQueueEach) {
  Placement placement;
  std::array<Placement::Load, 2> loads;
  for (int host = 0; host < 10; ++host) {
    ++loads[placement.Choose(loads, kSecond)].admin_queue_pairs;
    ++loads[placement.Choose(loads, kSecond)].io_queue_pairs;
  }
  EXPECT_EQ(loads[0].io_queue_pairs, 5u);
  EXPECT_EQ(loads[1].io_queue_pairs, 5u);
}

TEST(PlacementTest, DistributesPendingConnections) {
  Placement placement;
  std::array<Placement::Load, 3> loads;
  loads[0].io_queue_pairs = 4;
  for (int i = 0; i < 8; ++i) ++loads[placement.Choose(loads, kSecond)].pending_connections;
  EXPECT_EQ(loads[0].pending_connections, 0u);
  EXPECT_EQ(loads[1].pending_connections, 4u);
}

TEST(PlacementTest, AvoidsABusyReactor) {
  Placement placement;
  std::array<Placement::Load, 2> loads;
  loads[0].io_queue_pairs = 10;
  loads[1].io_queue_pairs = 2;
  EXPECT_EQ(placement.Choose(loads, kSecond), 1u);
  loads[1].completed_commands += 100'000;  // within a second
  EXPECT_EQ(placement.Choose(loads, 2 * kSecond), 0u);
  loads[0].completed_commands += 100'000;  // both the same
  loads[1].completed_commands += 100'000;
  EXPECT_EQ(placement.Choose(loads, 3 * kSecond), 1u);
  EXPECT_EQ(placement.Choose(loads, 3 * kSecond + 1), 1u);  // too early for another sample
  loads[1].completed_commands += 10;                        // too few to be significant
  EXPECT_EQ(placement.Choose(loads, 4 * kSecond), 1u);
}

TEST(PlacementTest, EqualReactorsTakeTurns) {
  Placement placement;
  std::array<Placement::Load, 3> loads;
  for (size_t i = 0; i < 6; ++i) EXPECT_EQ(placement.Choose(loads, kSecond), i % 3);
}

}  // namespace
}  // namespace sma::storage_target::nvmf::tcp
