// SPDX-License-Identifier: Apache-2.0

#include "base/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "base/printable.h"

namespace sma::base {
namespace {

std::string Printable(std::string_view text) {
  std::string out;
  AppendPrintable(text, out);
  return out;
}

TEST(PrintableTest, KeepsTextAndEscapesControlCharacters) {
  EXPECT_EQ(Printable(""), "");
  EXPECT_EQ(Printable("nqn.2014-08.org: \"a\" \\ 'b'"), "nqn.2014-08.org: \"a\" \\ 'b'");
  EXPECT_EQ(Printable("gr\u00fc\u00df \u20ac \U0001f600"), "gr\u00fc\u00df \u20ac \U0001f600");
  EXPECT_EQ(Printable("a\nb\rc\td"), "a\\nb\\rc\\td");
  EXPECT_EQ(Printable(std::string_view("\0\x1b[2J\x7f", 6)), "\\x00\\x1b[2J\\x7f");
  EXPECT_EQ(Printable("\u009b31m"), "\\xc2\\x9b31m");  // CSI in one character
  EXPECT_EQ(Printable("a\u2028b\u202ec"), "a\\xe2\\x80\\xa8b\\xe2\\x80\\xaec");
}

TEST(PrintableTest, EscapesWhatIsNotUtf8) {
  EXPECT_EQ(Printable("\xff"), "\\xff");
  EXPECT_EQ(Printable("a\xc3"), "a\\xc3");                  // cut off
  EXPECT_EQ(Printable("\xc0\x8a"), "\\xc0\\x8a");           // a newline in two bytes
  EXPECT_EQ(Printable("\xed\xa0\x80"), "\\xed\\xa0\\x80");  // a surrogate
  EXPECT_EQ(Printable("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80");
}

TEST(LogTest, AMessageIsOneLineWithoutControlCharacters) {
  testing::internal::CaptureStderr();
  InitLog("log_test", "info");
  const std::string host = "nqn.x\n2026-01-01T00:00:00Z critical sma: forged\x1b[31m";
  spdlog::info("host {} connected", host);
  SetLogTimestamps(false);
  spdlog::warn("{}", host);
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_THAT(
      log, testing::MatchesRegex(
               "20[^\n]*Z info log_test: host nqn.x\\\\n2026[^\n]* forged\\\\x1b\\[31m connected\n"
               "warning log_test: nqn.x\\\\n2026[^\n]* forged\\\\x1b\\[31m\n"));
}

}  // namespace
}  // namespace sma::base
