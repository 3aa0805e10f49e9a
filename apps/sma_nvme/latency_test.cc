// SPDX-License-Identifier: Apache-2.0

#include "sma_nvme/latency.h"

#include <gtest/gtest.h>

namespace sma::sma_nvme {
namespace {

TEST(LatencyHistogramTest, IsEmptyAtFirst) {
  LatencyHistogram histogram;
  EXPECT_EQ(histogram.count(), 0u);
  EXPECT_EQ(histogram.mean_ns(), 0);
  EXPECT_EQ(histogram.PercentileNs(99), 0u);
}

TEST(LatencyHistogramTest, KnowsPercentilesToASixtyFourth) {
  LatencyHistogram histogram;
  for (uint64_t ns = 1; ns <= 100000; ++ns) histogram.Add(ns);
  EXPECT_EQ(histogram.count(), 100000u);
  EXPECT_EQ(histogram.max_ns(), 100000u);
  EXPECT_DOUBLE_EQ(histogram.mean_ns(), 50000.5);
  for (double percent : {0.01, 1.0, 50.0, 90.0, 99.0, 99.9}) {
    const double exact = percent * 1000;
    EXPECT_NEAR(static_cast<double>(histogram.PercentileNs(percent)), exact, exact / 64 + 2)
        << percent;
  }
  EXPECT_EQ(histogram.PercentileNs(100), 100000u);
}

TEST(LatencyHistogramTest, TakesTheSmallestAndTheLargestValues) {
  LatencyHistogram histogram;
  histogram.Add(0);
  EXPECT_EQ(histogram.PercentileNs(50), 0u);
  histogram.Add(UINT64_MAX);
  EXPECT_EQ(histogram.PercentileNs(100), UINT64_MAX);
}

}  // namespace
}  // namespace sma::sma_nvme
