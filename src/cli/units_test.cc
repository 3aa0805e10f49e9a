// SPDX-License-Identifier: Apache-2.0

#include "cli/units.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace sma::cli {
namespace {

using std::chrono::milliseconds;

uint64_t Count(std::string_view text) { return ParseCount(text).value_or(12345); }
uint64_t Bytes(std::string_view text) { return ParseBytes(text).value_or(12345); }

TEST(UnitsTest, Counts) {
  EXPECT_EQ(Count("0"), 0u);
  EXPECT_EQ(Count("5000"), 5000u);
  EXPECT_EQ(Count("5k"), 5000u);
  EXPECT_EQ(Count("1.5M"), 1'500'000u);
  EXPECT_EQ(Count("0.001k"), 1u);
  EXPECT_EQ(Count("2G"), 2'000'000'000u);
  EXPECT_EQ(Count("18446744073709551615"), std::numeric_limits<uint64_t>::max());
}

TEST(UnitsTest, Bytes) {
  EXPECT_EQ(Bytes("4096"), 4096u);
  EXPECT_EQ(Bytes("64K"), 65536u);
  EXPECT_EQ(Bytes("200M"), 200u << 20);
  EXPECT_EQ(Bytes("200MiB"), 200u << 20);
  EXPECT_EQ(Bytes("1.5G"), 3ULL << 29);
  EXPECT_EQ(Bytes("2T"), 2ULL << 40);
  EXPECT_EQ(Bytes("16777215T"), 16777215ULL << 40);
}

TEST(UnitsTest, RejectsWhatIsNoNumber) {
  for (const char* text :
       {"", "k", "-1", "+1", " 1", "1 ", "1x", "1kk", "1,5k", "1.", ".5k", "1..5", "1.2.3k", "0x10",
        "1e3", "5m", "nan", "1.0000000001G", "99999999999999999999"}) {
    EXPECT_EQ(ParseCount(text).status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
  EXPECT_FALSE(ParseBytes("1k").ok());
  EXPECT_FALSE(ParseBytes("1MB").ok());
}

TEST(UnitsTest, RejectsFractionsAndOverflow) {
  EXPECT_EQ(ParseCount("1.0001k").status().message(), "'1.0001k' is not a whole number");
  EXPECT_EQ(ParseCount("18446744073709551615k").status().message(),
            "'18446744073709551615k' is too large");
  EXPECT_FALSE(ParseBytes("16777216T").ok());
}

TEST(UnitsTest, PlainNumbers) {
  EXPECT_EQ(*ParseUint32("0"), 0u);
  EXPECT_EQ(*ParseUint32("4294967295"), 4294967295u);
  for (const char* text : {"", " 1", "1 ", "-1", "+1", "0x1", "1k", "4294967296"}) {
    EXPECT_FALSE(ParseUint32(text).ok()) << text;
  }
}

TEST(UnitsTest, Durations) {
  EXPECT_EQ(*ParseDuration("10s"), milliseconds(10'000));
  EXPECT_EQ(*ParseDuration("10"), milliseconds(10'000));
  EXPECT_EQ(*ParseDuration("0.5"), milliseconds(500));
  EXPECT_EQ(*ParseDuration("500ms"), milliseconds(500));
  EXPECT_EQ(*ParseDuration("2m"), milliseconds(120'000));
  for (const char* text : {"", "0", "0s", "-1s", "1h", "0.5ms", "9999999999s"}) {
    EXPECT_FALSE(ParseDuration(text).ok()) << text;
  }
}

}  // namespace
}  // namespace sma::cli
