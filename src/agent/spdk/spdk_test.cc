// SPDX-License-Identifier: Apache-2.0

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "agent/spdk/bdev.h"
#include "agent/spdk/call.h"
#include "agent/spdk/nvmf.h"
#include "agent/spdk/testing/fake_target.h"
#include "jsonrpc/error.h"

namespace sma::spdk {
namespace {

using base::Context;
using jsonrpc::Json;
using jsonrpc::Request;
using std::chrono::milliseconds;
using testing::ElementsAre;

constexpr char kNqn[] = "nqn.2016-06.io.spdk:a";
constexpr char kHost[] = "nqn.2016-06.io.spdk:host";
constexpr char kVolume[] = "0000000A-1111-4222-8333-444444444444";

class SpdkTest : public testing::Test {
 protected:
  Context context_ = Context::Background();
  FakeTarget target_;
};

TEST_F(SpdkTest, SubsystemIsReadBack) {
  const base::Uuid id = *base::Uuid::Parse(kVolume);
  const TransportAddress address{"tcp", "ipv4", "127.0.0.1", "4420"};
  target_.AddBdev(id.ToString());
  ASSERT_TRUE(EnsureTransport(target_, context_, "tcp").ok());
  ASSERT_TRUE(EnsureTransport(target_, context_, "tcp").ok());
  Results results = CallToEnd(target_, context_,
                              std::vector<Request>{CreateSubsystem(kNqn, true),
                                                   AddHost(kNqn, kHost), AddListener(kNqn, address),
                                                   AddNamespace(kNqn, {7, id.ToString(), id, id})});
  for (const auto& result : results) ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(*ParseNsid(*results[3]), 7u);

  auto subsystem = FindSubsystem(target_, context_, kNqn);
  ASSERT_TRUE(subsystem.ok() && *subsystem);
  EXPECT_TRUE((*subsystem)->allow_any_host);
  EXPECT_FALSE((*subsystem)->is_discovery);
  EXPECT_THAT((*subsystem)->hosts, ElementsAre(kHost));
  ASSERT_EQ((*subsystem)->listeners.size(), 1u);
  EXPECT_TRUE(SameAddress((*subsystem)->listeners[0], address));
  ASSERT_EQ((*subsystem)->namespaces.size(), 1u);
  EXPECT_EQ((*subsystem)->namespaces[0].nsid, 7u);
  EXPECT_EQ((*subsystem)->namespaces[0].uuid, id);
  EXPECT_EQ((*subsystem)->namespaces[0].nguid, id);

  EXPECT_TRUE(DoToEnd(target_, context_, RemoveNamespace(kNqn, 7)).ok());
  EXPECT_TRUE(DoToEnd(target_, context_, RemoveListener(kNqn, address)).ok());
  EXPECT_TRUE(DoToEnd(target_, context_, RemoveHost(kNqn, kHost)).ok());
  EXPECT_TRUE(DoToEnd(target_, context_, DeleteSubsystem(kNqn)).ok());
  EXPECT_TRUE(IsNoSuchSubsystem(DoToEnd(target_, context_, DeleteSubsystem(kNqn))));
  EXPECT_EQ(*FindSubsystem(target_, context_, kNqn), std::nullopt);
}

TEST_F(SpdkTest, ErrorIsNotAbsence) {
  target_.SetFaultPlan([](uint64_t, const Request&) { return Fault::kRefuse; });
  EXPECT_FALSE(FindSubsystem(target_, context_, kNqn).ok());
  EXPECT_FALSE(FindBdev(target_, context_, kVolume, milliseconds(0)).ok());
}

TEST_F(SpdkTest, MalformedAnswersAreErrors) {
  for (const char* text :
       {"1", "{}", "[1]", "[{}]", R"([{"nqn":1}])", R"([{"nqn":"a","namespaces":[{}]}])",
        R"([{"nqn":"a","namespaces":[{"nsid":0}]}])",
        R"([{"nqn":"a","namespaces":[{"nsid":4294967295}]}])"}) {
    EXPECT_EQ(ParseSubsystems(Json::parse(text)).status().code(), absl::StatusCode::kInternal)
        << text;
  }
  for (const char* text : {"null", "{}", "[[]]", R"([{"name":null}])"}) {
    EXPECT_EQ(ParseBdevs(Json::parse(text)).status().code(), absl::StatusCode::kInternal) << text;
  }
  for (const char* text : {"true", "0", "-1", "1.5", "4294967295", "\"1\""}) {
    EXPECT_FALSE(ParseNsid(Json::parse(text)).ok()) << text;
  }
  EXPECT_FALSE(ParseSubsystem(Json::array()).ok());
  EXPECT_FALSE(ParseBdev(Json::array()).ok());
}

TEST_F(SpdkTest, EquivalentAddressesAreEqual) {
  const TransportAddress a{"TCP", "IPv6", "::1", "4420"};
  EXPECT_TRUE(SameAddress(a, {"tcp", "ipv6", "0:0::0:1", "4420"}));
  EXPECT_TRUE(SameAddress(a, {"tcp", "", "::1", ""}));
  EXPECT_FALSE(SameAddress(a, {"tcp", "ipv6", "::2", "4420"}));
  EXPECT_FALSE(SameAddress(a, {"tcp", "ipv6", "::1", "4421"}));
  EXPECT_FALSE(SameAddress(a, {"rdma", "ipv6", "::1", "4420"}));
  EXPECT_TRUE(SameAddress({"tcp", "ipv4", "HOST", "1"}, {"tcp", "ipv4", "host", "1"}));
}

TEST_F(SpdkTest, BdevIsFoundByUuidAndWaitedFor) {
  auto absent = FindBdev(target_, context_, kVolume, milliseconds(1));
  ASSERT_TRUE(absent.ok());
  EXPECT_EQ(absent->has_value(), false);
  std::thread maker([this] { target_.AddBdev("0000000a-1111-4222-8333-444444444444"); });
  auto found = FindBdev(target_, context_, kVolume, std::chrono::seconds(20));
  maker.join();
  ASSERT_TRUE(found.ok() && *found) << found.status();
  EXPECT_EQ((*found)->name, "null-0000000a-1111-4222-8333-444444444444");
  EXPECT_EQ((*found)->uuid, base::Uuid::Parse(kVolume));
  EXPECT_FALSE((*found)->claimed);
}

TEST_F(SpdkTest, WaitForBdevLeavesTimeToAnswer) {
  Context context = Context::WithTimeout(std::chrono::seconds(2));
  auto absent = FindBdev(target_, context, kVolume, std::chrono::hours(1));
  EXPECT_TRUE(absl::IsDeadlineExceeded(absent.status())) << absent.status();
  EXPECT_FALSE(context.done());
}

// The entire `wait` has passed, so the bdev's absence is known regardless of the deadline.
TEST_F(SpdkTest, WaitForBdevThatEndsBeforeTheDeadlineReturnsNone) {
  Context context = Context::WithTimeout(std::chrono::seconds(20));
  auto absent = FindBdev(target_, context, kVolume, milliseconds(20));
  ASSERT_TRUE(absent.ok()) << absent.status();
  EXPECT_FALSE(absent->has_value());
}

TEST_F(SpdkTest, LimitsAreSetAndReadBack) {
  target_.AddBdev(kVolume);
  ASSERT_TRUE(
      SetQosLimits(target_, context_, kVolume, {.rw_ios_per_sec = 2000, .r_mbytes_per_sec = 8})
          .ok());
  auto bdev = FindBdev(target_, context_, kVolume, milliseconds(0));
  ASSERT_TRUE(bdev.ok() && *bdev);
  EXPECT_EQ((*bdev)->limits, (RateLimits{2000, 0, 8, 0}));
}

TEST_F(SpdkTest, NothingIsSentAfterTheContextHasEnded) {
  Context context = Context::Background();
  context.Cancel();
  EXPECT_EQ(DoToEnd(target_, context, CreateSubsystem(kNqn, true)).code(),
            absl::StatusCode::kCancelled);
  EXPECT_EQ(target_.calls(), 0u);
}

TEST_F(SpdkTest, AnswerIsAwaitedPastTheDeadline) {
  target_.SetRoundTrip(milliseconds(40));
  Context context = Context::WithTimeout(milliseconds(10));
  EXPECT_TRUE(DoToEnd(target_, context, CreateSubsystem(kNqn, true)).ok());
  EXPECT_TRUE(context.done());
}

TEST_F(SpdkTest, CancelEndsTheWait) {
  target_.SetFaultPlan([](uint64_t, const Request&) { return Fault::kHang; });
  Context context = Context::Background();
  std::thread canceller([&] {
    while (target_.calls() == 0) std::this_thread::yield();
    context.Cancel();
  });
  absl::Status status = DoToEnd(target_, context, CreateSubsystem(kNqn, true));
  canceller.join();
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(jsonrpc::IsFateUnknown(status));
}

}  // namespace
}  // namespace sma::spdk
