// SPDX-License-Identifier: Apache-2.0

#include "base/peer_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "base/testing/captured_log.h"

namespace sma::base {
namespace {

using testing::ElementsAre;

class PeerLogTest : public testing::Test {
 protected:
  // Returns a source whose limit is not the one of `source`.
  std::string Other(const std::string& source) {
    std::string other = "x";
    while (&log_.LimitOf(other) == &log_.LimitOf(source)) other += "x";
    return other;
  }

  CapturedLog captured_;
  PeerLog log_{3, 0};
};

TEST_F(PeerLogTest, ASourceThatRepeatsItselfIsLimited) {
  for (int i = 0; i < 1000; ++i) log_.Log(spdlog::level::warn, "a", "a: line {}", i);
  EXPECT_THAT(captured_.Lines(), ElementsAre("a: line 0", "a: line 1", "a: line 2"));
}

TEST_F(PeerLogTest, OtherSourcesAreStillLogged) {
  for (int i = 0; i < 1000; ++i) log_.Log(spdlog::level::warn, "a", "a: line {}", i);
  log_.Log(spdlog::level::warn, Other("a"), "other");
  EXPECT_EQ(captured_.Lines().back(), "other");
}

TEST_F(PeerLogTest, ManySourcesAreLimitedTogether) {
  for (int i = 0; i < 100'000; ++i)
    log_.Log(spdlog::level::warn, "host " + std::to_string(i), "line");
  EXPECT_LE(captured_.Lines().size(), 3 * PeerLog::kSlots);
}

TEST_F(PeerLogTest, SaysHowManyLinesWereLeftOut) {
  PeerLog log(1, 50);
  uint64_t logged = 0;
  do {
    log.Log(spdlog::level::info, "a", "line");
    ++logged;
  } while (captured_.Lines().size() == 1);
  EXPECT_THAT(
      captured_.Lines(),
      ElementsAre("line", "a: " + std::to_string(logged - 2) + " lines were suppressed", "line"));
}

TEST_F(PeerLogTest, LinesBelowTheLevelAreNotCounted) {
  captured_.SetLevel(spdlog::level::warn);
  for (int i = 0; i < 10; ++i) log_.Log(spdlog::level::info, "a", "line");
  log_.Log(spdlog::level::warn, "a", "a warning");
  EXPECT_THAT(captured_.Lines(), ElementsAre("a warning"));
}

}  // namespace
}  // namespace sma::base
