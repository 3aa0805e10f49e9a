// SPDX-License-Identifier: Apache-2.0

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "base/context.h"
#include "base/hex.h"
#include "base/host_name.h"
#include "base/ip_address.h"
#include "base/strings.h"
#include "base/uuid.h"

namespace sma::base {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

TEST(HexTest, RoundTripAndRejects) {
  EXPECT_EQ(HexEncode(std::string("\x00\xff\x10", 3)), "00ff10");
  EXPECT_EQ(HexDecode("00Ff10"), std::string("\x00\xff\x10", 3));
  EXPECT_EQ(HexDecode("0"), std::nullopt);
  EXPECT_EQ(HexDecode("0g"), std::nullopt);
}

TEST(StringsTest, CaseOfAsciiLetters) {
  EXPECT_TRUE(EqualsIgnoreCase("aZ[@9", "Az[@9"));
  EXPECT_FALSE(EqualsIgnoreCase("a", "ab"));
  EXPECT_FALSE(EqualsIgnoreCase("[", "{"));
  EXPECT_EQ(ToLower("AbZ@[\xc4"), "abz@[\xc4");
}

TEST(IpAddressTest, ComparesByValue) {
  auto text = [](std::string_view s) {
    auto address = IpAddress::Parse(s);
    return address ? address->ToString() : "none";
  };
  EXPECT_EQ(text("127.0.0.1"), "127.0.0.1");
  EXPECT_EQ(text("0:0:0::0001"), "::1");
  EXPECT_EQ(text("FE80::A%eth0"), "fe80::a%eth0");
  EXPECT_EQ(IpAddress::Parse("::1"), IpAddress::Parse("0::0:1"));
  EXPECT_NE(IpAddress::Parse("fe80::1%eth0"), IpAddress::Parse("fe80::1%eth1"));
  EXPECT_TRUE(IpAddress::Parse("::1")->is_v6());
  EXPECT_FALSE(IpAddress::Parse("1.2.3.4")->is_v6());
}

TEST(IpAddressTest, RefusesWhatIsNoAddress) {
  for (std::string_view bad :
       {"", "localhost", "1.2.3", "1.2.3.4.5", "01.2.3.256", "::1%", "::1%a b", "1.2.3.4%eth0",
        "::g", " 1.2.3.4", "[::1]", "::1%0123456789abcdef"}) {
    EXPECT_EQ(IpAddress::Parse(bad), std::nullopt) << bad;
  }
  EXPECT_EQ(IpAddress::Parse(std::string_view("1.2.3.4\0x", 9)), std::nullopt);
}

TEST(HostNameTest, IsNoAddress) {
  for (const char* name : {"a", "localhost", "storage-1.example.com", "Storage.Example.",
                           "1.2.3.4a", "10.example", "a_b"}) {
    EXPECT_TRUE(IsHostName(name)) << name;
  }
  for (const char* other : {"", ".", "a..b", ".a", "-a", "a.-b", "a b", "a:1", "::1", "1.2.3.4",
                            "127.1", "1", "0x7f.1", "a/b", "a%b"}) {
    EXPECT_FALSE(IsHostName(other)) << other;
  }
  EXPECT_TRUE(IsHostName(std::string(63, 'a')));
  EXPECT_FALSE(IsHostName(std::string(64, 'a')));
}

TEST(UuidTest, TextForms) {
  auto uuid = Uuid::Parse("00112233-4455-6677-8899-AABBCCDDEEFF");
  ASSERT_TRUE(uuid);
  EXPECT_EQ(uuid->ToString(), "00112233-4455-6677-8899-aabbccddeeff");
  EXPECT_EQ(uuid->ToHex(), "00112233445566778899aabbccddeeff");
  EXPECT_EQ(Uuid::ParseHex(uuid->ToHex()), uuid);
  EXPECT_EQ(Uuid::FromBytes(uuid->ToBytes()), uuid);
}

TEST(UuidTest, RejectsWhatIsNoUuid) {
  EXPECT_FALSE(Uuid::Parse(""));
  EXPECT_FALSE(Uuid::Parse("00112233445566778899aabbccddeeff"));
  EXPECT_FALSE(Uuid::Parse("00112233-4455-6677-8899-aabbccddeef"));
  EXPECT_FALSE(Uuid::Parse("00112233-4455-6677-8899-aabbccddeefg"));
  EXPECT_FALSE(Uuid::Parse("001122334-455-6677-8899-aabbccddeeff"));
  EXPECT_FALSE(Uuid::FromBytes("short"));
}

TEST(UuidTest, RandomIsVersion4AndDiffers) {
  Uuid a = Uuid::Random();
  Uuid b = Uuid::Random();
  EXPECT_NE(a, b);
  EXPECT_EQ(a.bytes()[6] >> 4, 4);
  EXPECT_EQ(a.bytes()[8] >> 6, 2);
}

// Tests the example in RFC 9562 appendix A.4.
TEST(UuidTest, FromNameMatchesTheStandardsExample) {
  auto dns = Uuid::Parse("6ba7b810-9dad-11d1-80b4-00c04fd430c8");
  ASSERT_TRUE(dns);
  EXPECT_EQ(Uuid::FromName(*dns, "www.example.com").ToString(),
            "2ed6657d-e927-568b-95e1-2665a8aea6a2");
}

TEST(ContextTest, DeadlineEndsIt) {
  Context context = Context::WithDeadline(steady_clock::now() - milliseconds(1));
  EXPECT_EQ(context.status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(Context::Background().status().ok());
}

TEST(ContextTest, CancelRunsCallbacksOnceAndReachesChildren) {
  Context parent = Context::Background();
  Context child = parent.Child(TimePoint::max());
  int calls = 0;
  child.AddCallback([&] { ++calls; });
  uint64_t removed = child.AddCallback([&] { calls += 100; });
  child.RemoveCallback(removed);
  parent.Cancel();
  parent.Cancel();
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(child.status().code(), absl::StatusCode::kCancelled);
  child.AddCallback([&] { ++calls; });
  EXPECT_EQ(calls, 2);
}

TEST(ContextTest, ChildDoesNotCancelItsParent) {
  Context parent = Context::Background();
  {
    Context child = parent.Child(TimePoint::max());
    child.Cancel();
  }
  EXPECT_TRUE(parent.status().ok());
}

TEST(ContextTest, CancelWakesASleeper) {
  Context context = Context::WithTimeout(std::chrono::hours(1));
  std::thread sleeper([&] {
    EXPECT_EQ(context.SleepUntil(TimePoint::max()).code(), absl::StatusCode::kCancelled);
  });
  context.Cancel();
  sleeper.join();
}

}  // namespace
}  // namespace sma::base
