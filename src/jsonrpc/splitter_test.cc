// SPDX-License-Identifier: Apache-2.0

#include "jsonrpc/splitter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "jsonrpc/protocol.h"

namespace sma::jsonrpc {
namespace {

using Outcome = Splitter::Outcome;
using testing::ElementsAre;

struct Split {
  std::vector<std::string> values;
  Outcome end;
};

// Feeds `stream` in pieces of `piece_bytes`.
Split SplitAll(std::string_view stream, size_t piece_bytes, size_t max_value_bytes = 1000) {
  Splitter splitter(max_value_bytes);
  Split split{{}, Outcome::kNeedMore};
  for (size_t at = 0; at < stream.size(); at += piece_bytes) {
    splitter.Append(stream.substr(at, piece_bytes));
    std::string_view value;
    while ((split.end = splitter.Next(value)) == Outcome::kValue) split.values.emplace_back(value);
  }
  return split;
}

class SplitterTest : public testing::TestWithParam<size_t> {};

TEST_P(SplitterTest, FindsValuesHoweverTheStreamIsCut) {
  Split split = SplitAll(" {\"a\":1}{}\n[1,{\"b\":[]}]\t\r\n {\"c\":\"}]\"}", GetParam());
  EXPECT_THAT(split.values, ElementsAre(R"({"a":1})", "{}", R"([1,{"b":[]}])", R"({"c":"}]"})"));
  EXPECT_EQ(split.end, Outcome::kNeedMore);
}

TEST_P(SplitterTest, HandlesEscapesInStrings) {
  Split split = SplitAll(R"({"a":"\"}"}{"b":"\\"}{"c":"\\\"{"}["\u005c"])", GetParam());
  EXPECT_THAT(split.values,
              ElementsAre(R"({"a":"\"}"})", R"({"b":"\\"})", R"({"c":"\\\"{"})", R"(["\u005c"])"));
}

TEST_P(SplitterTest, RejectsOtherValuesThanObjectsAndArrays) {
  for (const char* junk : {"{}x", "{}1", "{}\"a\"", "{}}", "{}]", "{},{}", "{}\x01"}) {
    Split split = SplitAll(junk, GetParam());
    EXPECT_THAT(split.values, ElementsAre("{}")) << junk;
    EXPECT_EQ(split.end, Outcome::kJunk) << junk;
  }
}

TEST_P(SplitterTest, AcceptsTheLargestValueAndNoLarger) {
  const std::string largest = "[\"" + std::string(16, 'a') + "\"]";
  Split split = SplitAll("  " + largest + " " + largest, GetParam(), largest.size());
  EXPECT_THAT(split.values, ElementsAre(largest, largest));
  split = SplitAll("  " + largest, GetParam(), largest.size() - 1);
  EXPECT_THAT(split.values, ElementsAre());
  EXPECT_EQ(split.end, Outcome::kTooLarge);
}

TEST(SplitterWipeTest, ReturnedTextIsOverwritten) {
  Splitter splitter(1000);
  const std::string secret = R"({"key":"0123456789abcdef"})";
  splitter.Append(secret + R"({"b":1}{"c":)");
  std::string_view value;
  ASSERT_EQ(splitter.Next(value), Outcome::kValue);
  const char* const first = value.data();
  EXPECT_EQ(value, secret);
  ASSERT_EQ(splitter.Next(value), Outcome::kValue);
  EXPECT_EQ(value, R"({"b":1})");
  EXPECT_EQ(std::string_view(first, secret.size()), std::string(secret.size(), '\0'));
  splitter.Append("2}");
  ASSERT_EQ(splitter.Next(value), Outcome::kValue);
  EXPECT_EQ(value, R"({"c":2})");
  EXPECT_EQ(splitter.Next(value), Outcome::kNeedMore);
}

INSTANTIATE_TEST_SUITE_P(Pieces, SplitterTest, testing::Values(1, 2, 3, 5, 1000));

TEST(SplitterLimitTest, UnfinishedValueOverTheLimitIsDetectedEarly) {
  Splitter splitter(100);
  splitter.Append("[\"" + std::string(200, 'a'));
  std::string_view value;
  EXPECT_EQ(splitter.Next(value), Outcome::kTooLarge);
  splitter.Append("\"]");
  EXPECT_EQ(splitter.Next(value), Outcome::kTooLarge);
}

TEST(SplitterLimitTest, Nesting) {
  auto nested = [](int depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_THAT(SplitAll(nested(kMaxNesting), 7).values, ElementsAre(nested(kMaxNesting)));
  EXPECT_EQ(SplitAll(nested(kMaxNesting + 1), 7).end, Outcome::kJunk);
}

TEST(SplitterBufferTest, ManyValuesAndOneHugeOne) {
  constexpr size_t kHuge = 4 * 1024 * 1024;
  Splitter splitter(kHuge + 2);
  const std::string huge = "\"" + std::string(kHuge - 2, 'x') + "\"";
  std::string stream;
  for (int i = 0; i < 1000; ++i) stream += "{\"i\":" + std::to_string(i) + "}";
  stream += "[" + huge + "]" + stream;
  size_t count = 0, bytes = 0;
  for (size_t at = 0; at < stream.size(); at += 60'000) {
    std::string_view piece = std::string_view(stream).substr(at, 60'000);
    std::span<char> room = splitter.Prepare(piece.size());
    ASSERT_GE(room.size(), piece.size());
    std::copy(piece.begin(), piece.end(), room.begin());
    splitter.Commit(piece.size());
    std::string_view value;
    while (splitter.Next(value) == Outcome::kValue) {
      ++count;
      bytes += value.size();
    }
  }
  EXPECT_EQ(count, 2001u);
  EXPECT_EQ(bytes, stream.size());
  EXPECT_EQ(splitter.pending_bytes(), 0u);
}

TEST(ParseTest, AcceptsOnlyJson) {
  EXPECT_EQ(Parse(R"({"a":[1,true]})"), Json({{"a", {1, true}}}));
  for (const char* junk : {"", "{", "{\"a\":}", "[1,]", "{]", "\"\xff\"", "{} {}", "[1e999]"}) {
    EXPECT_EQ(Parse(junk), std::nullopt) << junk;
  }
}

}  // namespace
}  // namespace sma::jsonrpc
