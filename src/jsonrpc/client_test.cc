// SPDX-License-Identifier: Apache-2.0

#include "jsonrpc/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "base/testing/listen_as.h"
#include "jsonrpc/call_scope.h"
#include "jsonrpc/error.h"
#include "jsonrpc/testing/client_fixture.h"

namespace sma::jsonrpc {
namespace {

const std::vector<std::string> kThisCall = {"this"};

using base::Context;
using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;
using testing::HasSubstr;

TEST_F(ClientTest, ResultsAndErrors) {
  StartServer();
  Client& client = StartClient();
  EXPECT_EQ(*client.Call(Context::Background(), "echo", {{"a", 1}}), Json({{"a", 1}}));
  EXPECT_EQ(*client.Call(Context::Background(), "echo", nullptr), Json());
  auto failed = client.Call(Context::Background(), "fail", nullptr);
  EXPECT_EQ(failed.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(GetTargetError(failed.status())->code, -17);
  EXPECT_FALSE(IsFateUnknown(failed.status()));
  ClientStats stats = client.stats();
  EXPECT_EQ(stats.calls_sent, 3u);
  EXPECT_EQ(stats.results, 2u);
  EXPECT_EQ(stats.target_errors, 1u);
}

TEST_F(ClientTest, NothingIsSentToATargetOfAnotherUser) {
  if (::geteuid() != 0) GTEST_SKIP() << "must be root to listen as another user";
  options_.trusted_users_only = true;
  options_.connect_wait = milliseconds(100);
  base::UniqueFd listener = base::ListenAs(65534, options_.socket_path);
  ASSERT_TRUE(listener);
  Client& client = StartClient();
  auto answer = client.Call(Context::WithTimeout(seconds(20)), "echo", {{"key", "00"}});
  EXPECT_EQ(answer.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(answer.status().message()),
              HasSubstr("is listening there as user 65534"));
  EXPECT_EQ(client.stats().calls_sent, 0u);
  std::filesystem::remove(options_.socket_path);
  listener.Reset();
  StartServer();  // the target of this test
  EXPECT_TRUE(client.WaitConnected(Context::WithTimeout(seconds(20))).ok());
}

TEST_F(ClientTest, CallManyKeepsTheOrderOfRequests) {
  StartServer();
  StartClient();
  std::vector<Request> requests;
  for (int i = 0; i < 200; ++i) requests.push_back({"hold", {i}});
  requests[50].method = "fail";
  requests.push_back({"release", nullptr});
  for (bool batches : {false, true}) {
    if (batches) {
      options_.use_batches = true;
      client_.reset();
      StartClient();
    }
    auto results = client_->CallMany(Context::WithTimeout(seconds(20)), requests);
    ASSERT_EQ(results.size(), requests.size());
    for (int i = 0; i < 200; ++i) {
      if (i == 50) {
        EXPECT_EQ(GetTargetError(results[i].status())->code, -17);
      } else {
        ASSERT_TRUE(results[i].ok()) << results[i].status();
        EXPECT_EQ(*results[i], Json({i}));
      }
    }
    EXPECT_EQ(client_->stats().round_trips, 1u);
  }
  EXPECT_TRUE(client_->CallMany(Context::Background(), {}).empty());
}

TEST_F(ClientTest, SixtyFourThreads) {
  StartServer();
  Client& client = StartClient();
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 64; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 100; ++i) {
        const Json params = {t, i, std::string((t * i) % 500, 'x')};
        auto result = client.Call(Context::WithTimeout(seconds(60)), "echo", params);
        if (!result.ok() || *result != params) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(client.stats().results, 6400u);
}

TEST_F(ClientTest, HugeAnswersAndLargeRequests) {
  StartServer();
  Client& client = StartClient();
  auto big = client.Call(Context::WithTimeout(seconds(60)), "big", {{"size", 5'000'000}});
  ASSERT_TRUE(big.ok()) << big.status();
  EXPECT_EQ(big->get_ref<std::string&>().size(), 5'000'000u);

  // More than the socket's buffer holds, so that the client's thread has to write the rest.
  const std::vector<Request> requests(40, Request{"echo", {std::string(200'000, 'y')}});
  for (auto& result : client.CallMany(Context::WithTimeout(seconds(60)), requests)) {
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(*result, requests[0].params);
  }
}

TEST_F(ClientTest, AnOversizedRequestSendsNothing) {
  StartServer();
  Client& client = StartClient();
  const std::vector<Request> requests = {{"echo", nullptr},
                                         {"echo", {std::string(kMaxRequestBytes, 'x')}}};
  for (auto& result : client.CallMany(Context::Background(), requests)) {
    EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_FALSE(IsFateUnknown(result.status()));
  }
  EXPECT_EQ(client.stats().calls_sent, 0u);
}

TEST_F(ClientTest, NotConnected) {
  options_.connect_wait = milliseconds(20);
  Client& client = StartClient();
  auto result = client.Call(Context::Background(), "echo", nullptr);
  EXPECT_EQ(result.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(result.status().message()), HasSubstr("No such file"));
  EXPECT_FALSE(IsFateUnknown(result.status()));
  EXPECT_FALSE(client.connected());
  EXPECT_EQ(client.generation(), 0u);
  EXPECT_TRUE(absl::IsUnavailable(client.WaitConnected(Context::WithTimeout(milliseconds(5)))));

  // A waiting call is served as soon as the target listens.
  options_.connect_wait = seconds(20);
  Client& patient = StartClient();
  std::thread caller(
      [&] { EXPECT_TRUE(patient.Call(Context::Background(), "echo", nullptr).ok()); });
  StartServer();
  caller.join();
  EXPECT_EQ(patient.generation(), 1u);
}

TEST_F(ClientTest, CancelWhileWaitingForTheConnection) {
  Client& client = StartClient();
  Context context = Context::Background();
  std::thread canceller([&] { context.Cancel(); });
  auto result = client.Call(context, "echo", nullptr);
  canceller.join();
  EXPECT_EQ(result.status().code(), absl::StatusCode::kCancelled);
  EXPECT_FALSE(IsFateUnknown(result.status()));
  EXPECT_TRUE(absl::IsCancelled(client.WaitConnected(context)));
}

TEST_F(ClientTest, DeadlineThenTheLateAnswerIsDropped) {
  CallScope scope(kThisCall);
  StartServer();
  Client& client = StartClient();
  ASSERT_TRUE(client.WaitConnected(Context::WithTimeout(seconds(20))).ok());
  const auto start = steady_clock::now();
  auto result = client.Call(Context::WithTimeout(milliseconds(500)), "hold", nullptr);
  EXPECT_GE(steady_clock::now() - start, milliseconds(500));
  EXPECT_EQ(result.status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(IsFateUnknown(result.status()));
  EXPECT_TRUE(client.MayActLate(kThisCall, milliseconds(0)));
  EXPECT_TRUE(client.Call(Context::Background(), "release", nullptr).ok());
  EXPECT_EQ(client.stats().late_answers, 1u);
  EXPECT_EQ(client.stats().given_up, 1u);
  EXPECT_EQ(client.generation(), 1u);
  EXPECT_FALSE(client.MayActLate(kThisCall, std::chrono::hours(1)));
}

TEST_F(ClientTest, TargetMayActBrieflyAfterTheConnectionIsLost) {
  CallScope scope(kThisCall);
  StartServer();
  Client& client = StartClient();
  CallWithoutAnswer(client, "hold");
  server_.reset();
  WaitFor([&] { return !client.connected(); });
  EXPECT_TRUE(client.MayActLate(kThisCall, std::chrono::hours(1)));
  EXPECT_FALSE(client.MayActLate(kThisCall, milliseconds(0)));
}

TEST_F(ClientTest, AMissingAnswerIsNotAwaitedForever) {
  CallScope scope(kThisCall);
  options_.max_answer_time = milliseconds(1);
  StartServer();
  Client& client = StartClient();
  CallWithoutAnswer(client, "hold");
  WaitFor([&] { return !client.MayActLate(kThisCall, std::chrono::hours(1)); });
}

// A call without an answer does not affect calls about other objects.
TEST_F(ClientTest, Defect52_OnlyObjectsOfTheCallMayChangeLate) {
  StartServer();
  Client& client = StartClient();
  const std::vector<std::string> others = {"another"};
  {
    CallScope scope(kThisCall);
    CallWithoutAnswer(client, "hold");
    CallWithoutAnswer(client, "hold_get_all");
  }
  EXPECT_TRUE(client.MayActLate(kThisCall, milliseconds(0)));
  EXPECT_FALSE(client.MayActLate(others, std::chrono::hours(1)));
  server_.reset();
  WaitFor([&] { return !client.connected(); });
  EXPECT_TRUE(client.MayActLate(kThisCall, std::chrono::hours(1)));
  EXPECT_FALSE(client.MayActLate(others, std::chrono::hours(1)));
}

// Calls that only read, and calls without a scope, have no late effect.
TEST_F(ClientTest, ReadOnlyCallsHaveNoLateEffect) {
  StartServer();
  Client& client = StartClient();
  CallWithoutAnswer(client, "hold");
  CallScope scope(kThisCall);
  CallWithoutAnswer(client, "hold_get_all");
  EXPECT_FALSE(client.MayActLate(kThisCall, std::chrono::hours(1)));
}

TEST_F(ClientTest, DeadlineEndsOnlyOpenCalls) {
  StartServer();
  Client& client = StartClient();
  const std::vector<Request> requests = {{"echo", {1}}, {"hold", nullptr}, {"fail", nullptr}};
  auto results = client.CallMany(Context::WithTimeout(milliseconds(200)), requests);
  EXPECT_TRUE(results[0].ok());
  EXPECT_EQ(results[1].status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(GetTargetError(results[2].status())->code, -17);
}

TEST_F(ClientTest, Cancel) {
  StartServer();
  Client& client = StartClient();
  Context context = Context::Background();
  std::thread canceller([&] {
    WaitFor([&] { return held_count_ == 1; });
    context.Cancel();
  });
  auto result = client.Call(context, "hold", nullptr);
  canceller.join();
  EXPECT_EQ(result.status().code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(IsFateUnknown(result.status()));
  result = client.Call(context, "echo", nullptr);
  EXPECT_EQ(result.status().code(), absl::StatusCode::kCancelled);
  EXPECT_FALSE(IsFateUnknown(result.status()));
}

TEST_F(ClientTest, ReconnectsWhenTheTargetRestarts) {
  std::atomic<uint64_t> connects{0}, disconnects{0};
  options_.on_connect = [&](uint64_t generation) { connects = generation; };
  options_.on_disconnect = [&](uint64_t generation, const absl::Status& reason) {
    EXPECT_EQ(reason.code(), absl::StatusCode::kUnavailable);
    disconnects = generation;
  };
  StartServer();
  Client& client = StartClient();
  for (uint64_t generation = 1; generation <= 5; ++generation) {
    ASSERT_TRUE(client.WaitConnected(Context::WithTimeout(seconds(20))).ok());
    EXPECT_EQ(client.generation(), generation);
    EXPECT_EQ(connects, generation);
    std::thread stopper([&] {
      WaitFor([&] { return held_count_ == 1; });
      server_.reset();
    });
    auto result = client.Call(Context::Background(), "hold", nullptr);
    stopper.join();
    held_.clear();
    held_count_ = 0;
    EXPECT_EQ(result.status().code(), absl::StatusCode::kUnavailable);
    EXPECT_TRUE(IsFateUnknown(result.status()));
    WaitFor([&] { return disconnects == generation; });
    StartServer();
    EXPECT_TRUE(client.Call(Context::Background(), "echo", nullptr).ok());
  }
  client_.reset();  // before the objects that the callbacks use are destroyed
}

TEST_F(ClientTest, CallersSurviveATargetThatRestartsRepeatedly) {
  StartServer();
  Client& client = StartClient();
  std::atomic<bool> stop{false};
  std::atomic<int> succeeded{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 16; ++t) {
    threads.emplace_back([&] {
      while (!stop) {
        auto result = client.Call(Context::WithTimeout(seconds(20)), "echo", {1});
        if (result.ok()) {
          ++succeeded;
        } else {
          EXPECT_EQ(result.status().code(), absl::StatusCode::kUnavailable) << result.status();
        }
      }
    });
  }
  for (int i = 0; i < 10; ++i) {
    const int before = succeeded;
    WaitFor([&] { return succeeded >= before + 100; });
    server_.reset();
    StartServer();
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
}

TEST_F(ClientTest, StopEndsCalls) {
  StartServer();
  Client& client = StartClient();
  std::thread stopper([&] {
    WaitFor([&] { return held_count_ == 1; });
    client.Stop();
  });
  auto result = client.Call(Context::Background(), "hold", nullptr);
  stopper.join();
  EXPECT_EQ(result.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(absl::IsUnavailable(client.Call(Context::Background(), "echo", nullptr).status()));
}

TEST_F(ClientTest, PollPeriodCostsTheSameForOneAndForMany) {
  ServerOptions server_options;
  server_options.poll_period = milliseconds(20);
  StartServer(server_options);
  Client& client = StartClient();
  ASSERT_TRUE(client.Call(Context::Background(), "echo", nullptr).ok());
  const std::vector<Request> requests(50, Request{"echo", {1}});
  const auto start = steady_clock::now();
  for (auto& result : client.CallMany(Context::Background(), requests)) EXPECT_TRUE(result.ok());
  // Received in one poll and answered in the next: takes at least one period, and at most two on an
  // idle host.
  const auto took = steady_clock::now() - start;
  EXPECT_GE(took, milliseconds(20));
  EXPECT_LT(took, 10 * milliseconds(20)) << "not one look for each";
}

}  // namespace
}  // namespace sma::jsonrpc
