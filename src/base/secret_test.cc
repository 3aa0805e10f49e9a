// SPDX-License-Identifier: Apache-2.0

#include "base/secret.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>

// AddressSanitizer and ThreadSanitizer make mlock(2) do nothing.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SMA_NO_MLOCK
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SMA_NO_MLOCK
#endif
#endif

namespace sma::base {
namespace {

// Checks the flags of the mapping (proc(5), /proc/pid/smaps): it is locked and not included in core
// dumps.
TEST(SecretTest, IsLockedAndLeftOutOfCoreDumps) {
  auto secret = Secret::Copy("top secret");
  ASSERT_TRUE(secret);
  EXPECT_EQ(secret->bytes(), "top secret");
  char address[32];
  std::snprintf(address, sizeof address, "%lx-",
                reinterpret_cast<unsigned long>(secret->bytes().data()));
  std::ifstream smaps("/proc/self/smaps");
  std::string line;
  bool found = false;
  while (std::getline(smaps, line)) {
    if (line.starts_with(address)) found = true;
    if (found && line.starts_with("VmFlags:")) break;
  }
  ASSERT_TRUE(found);
#ifndef SMA_NO_MLOCK
  EXPECT_THAT(line, testing::HasSubstr(" lo"));
#endif
  EXPECT_THAT(line, testing::HasSubstr(" dd"));
}

TEST(SecretTest, Moves) {
  auto first = Secret::Copy("one");
  auto second = Secret::Copy("another");
  ASSERT_TRUE(first && second);
  *first = std::move(*second);
  EXPECT_EQ(first->bytes(), "another");
  EXPECT_EQ(second->size(), 0u);
}

TEST(SecretTest, WipesAndComparesStrings) {
  std::string text = "0123456789abcdef0123456789abcdef";
  const char* where = text.data();
  WipeString(text);
  EXPECT_TRUE(text.empty());
  EXPECT_EQ(std::string(where, 32), std::string(32, '\0'));
  EXPECT_TRUE(SecretsEqual("ab", "ab"));
  EXPECT_FALSE(SecretsEqual("ab", "ac"));
  EXPECT_FALSE(SecretsEqual("ab", "abc"));
  EXPECT_TRUE(SecretsEqual("", ""));
}

}  // namespace
}  // namespace sma::base
