// SPDX-License-Identifier: Apache-2.0

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/testing/lowered_descriptor_limit.h"
#include "jsonrpc/testing/server_fixture.h"

namespace sma::jsonrpc {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

TEST_F(ServerTest, LargestRequestAndOneByteMore) {
  const std::string frame = R"({"id":1,"method":"drop","params":[""]})";
  std::string request = frame;
  request.insert(frame.size() - 3, kMaxRequestBytes - frame.size(), 'x');
  Peer peer(server_);
  peer.Send(request);
  EXPECT_NE(peer.Line(), "");
  request.insert(frame.size() - 3, "x");
  peer.Send(request);
  EXPECT_TRUE(peer.Closed());
}

TEST_F(ServerTest, SlowReaderIsThrottledAndLosesNothing) {
  size_t served = 0;
  server_.Register("count_big", [&](const Json&, Responder responder) {
    ++served;
    responder.Result(std::string(1 << 20, 'x'));
  });
  Peer peer(server_);
  std::string requests;
  for (int i = 0; i < 20; ++i) requests += R"({"id":1,"method":"count_big"})";
  peer.Send(requests);
  for (int i = 0; i < 30; ++i) peer.Step();
  EXPECT_LE(served, 10u);  // 4 MiB that wait, what the socket accepted, and one more
  EXPECT_EQ(peer.Lines(20).size(), 20u);
  EXPECT_EQ(served, 20u);
}

TEST_F(ServerTest, RequestsInProgressAreLimited) {
  ServerOptions options;
  options.max_requests_in_progress = 10;
  Server server(options);
  Prepare(server);
  Peer peer(server);
  std::string requests;
  for (int i = 0; i < 25; ++i) requests += R"({"id":1,"method":"later"})";
  peer.Send(requests);
  peer.Shutdown();
  size_t answered = 0;
  while (answered < 25) {
    while (later_.empty()) peer.Step();
    for (int i = 0; i < 5; ++i) peer.Step();
    ASSERT_LE(later_.size(), 10u);
    answered += later_.size();
    for (const Responder& responder : std::exchange(later_, {})) responder.Result(1);
  }
  EXPECT_EQ(peer.Lines(25).size(), 25u);
  EXPECT_TRUE(peer.Closed());
}

TEST_F(ServerTest, AtTheLimitAnIdleConnectionIsReplaced) {
  ServerOptions options;
  options.max_connections = 3;
  Server server(options);
  Prepare(server);
  Peer busy(server), idle(server), used(server);
  busy.Send(R"({"id":1,"method":"later"})");
  while (later_.empty()) busy.Step();
  idle.Send(R"({"id":1,"method":"echo"})");
  EXPECT_NE(idle.Line(), "");
  used.Send(R"({"id":1,"method":"echo"})");
  EXPECT_NE(used.Line(), "");
  Peer newcomer(server);
  newcomer.Send(R"({"id":1,"method":"echo"})");
  EXPECT_NE(newcomer.Line(), "");
  EXPECT_TRUE(idle.Closed());
  used.Send(R"({"id":2,"method":"echo"})");
  EXPECT_NE(used.Line(), "");
  later_[0].Result(1);
  EXPECT_NE(busy.Line(), "");
}

TEST_F(ServerTest, WithoutDescriptorsAnIdleConnectionIsReplaced) {
  const std::string path = TempPath();
  ASSERT_TRUE(server_.Listen(path, 0600).ok());
  Peer idle(server_);
  idle.Send(R"({"id":1,"method":"echo"})");
  EXPECT_NE(idle.Line(), "");
  Peer newcomer(server_, path);
  ASSERT_TRUE(newcomer.connected);
  const int next_fd = ::dup(0);
  ASSERT_GE(next_fd, 0);
  ::close(next_fd);
  {
    const base::LoweredDescriptorLimit limit(static_cast<rlim_t>(next_fd));
    newcomer.Send(R"({"id":1,"method":"echo"})");
    EXPECT_NE(newcomer.Line(), "");
  }
  EXPECT_TRUE(idle.Closed());
}

TEST_F(ServerTest, ConnectionLimitWithoutIdleConnections) {
  ServerOptions options;
  options.max_connections = 2;
  Server server(options);
  Prepare(server);
  Peer first(server), second(server);
  first.Send(R"({"id":1,"method":"later"})");
  second.Send(R"({"id":1,"method":"later"})");
  while (later_.size() < 2) first.Step();
  Peer third(server);
  EXPECT_TRUE(third.Closed());
  first.Close();
  later_.clear();
  while (server.connection_count() > 1) second.Step();
  Peer fourth(server);
  fourth.Send(R"({"id":1,"method":"echo"})");
  EXPECT_NE(fourth.Line(), "");
}

std::string Batch(int count, const std::string& method, const std::string& params = "") {
  std::string batch = "[";
  for (int i = 0; i < count; ++i) {
    if (i > 0) batch += ',';
    batch += R"({"id":)" + std::to_string(i + 1) + R"(,"method":")" + method + "\"" + params + "}";
  }
  return batch + "]";
}

// Returns a handler that uses `time` of CPU time.
Server::Handler Takes(milliseconds time, int& runs) {
  return [time, &runs](const Json&, Responder responder) {
    ++runs;
    for (const auto until = steady_clock::now() + time; steady_clock::now() < until;) {
    }
    responder.Result(true);
  };
}

TEST_F(ServerTest, OthersAreServedWhileABatchRuns) {
  int runs = 0;
  server_.Register("work", Takes(milliseconds(2), runs));
  Peer greedy(server_), other(server_);
  greedy.Send(Batch(500, "work"));
  while (runs == 0) greedy.Step();
  other.Send(R"({"id":1,"method":"echo"})");
  EXPECT_NE(other.Line(), "");
  EXPECT_LT(runs, 100);
  // All answers arrive together and in order.
  const Json answers = Json::parse(greedy.Line());
  ASSERT_EQ(answers.size(), 500u);
  for (size_t i = 0; i < 500; ++i) EXPECT_EQ(answers[i]["id"], i + 1);
  EXPECT_EQ(runs, 500);
}

TEST_F(ServerTest, ConnectionsWithManyCallsAreServedInTurn) {
  int runs_of_first = 0;
  int runs_of_second = 0;
  server_.Register("first", Takes(milliseconds(1), runs_of_first));
  server_.Register("second", Takes(milliseconds(1), runs_of_second));
  Peer first(server_), second(server_), third(server_);
  std::string calls_of_first, calls_of_second;
  for (int i = 0; i < 300; ++i) {
    calls_of_first += R"({"id":1,"method":"first"})";
    calls_of_second += R"({"id":1,"method":"second"})";
  }
  first.Send(calls_of_first);
  second.Send(calls_of_second);
  while (runs_of_first + runs_of_second < 100) first.Step();
  EXPECT_GT(runs_of_first, 20);
  EXPECT_GT(runs_of_second, 20);
  third.Send(R"({"id":1,"method":"echo"})");
  EXPECT_NE(third.Line(), "");
  EXPECT_LT(runs_of_first + runs_of_second, 200);
  EXPECT_EQ(first.Lines(300).size(), 300u);
  EXPECT_EQ(second.Lines(300).size(), 300u);
}

TEST_F(ServerTest, AnswersOfABatchAreBounded) {
  ServerOptions options;
  options.max_batch_answer_bytes = 100'000;
  Server server(options);
  Prepare(server);
  int runs = 0;
  server.Register("large", [&](const Json&, Responder responder) {
    ++runs;
    responder.Result(std::string(30'000, 'x'));
  });
  Peer peer(server);
  peer.Send(Batch(1000, "large"));
  const Json answers = Json::parse(peer.Line());
  ASSERT_EQ(answers.size(), 1000u);
  EXPECT_EQ(runs, 4);
  EXPECT_EQ(answers[3]["result"].get<std::string>().size(), 30'000u);
  EXPECT_EQ(answers[4]["error"]["code"], kInternalError);
  EXPECT_EQ(answers[999]["id"], 1000);
}

TEST_F(ServerTest, PeerThatDoesNotReadIsClosed) {
  ServerOptions options;
  options.send_timeout = milliseconds(50);
  Server server(options);
  Prepare(server);
  Peer peer(server), other(server);
  peer.Send(R"({"id":1,"method":"big","params":{"size":1000000}})");
  while (server.connection_count() > 1) other.Step();
  other.Send(R"({"id":1,"method":"echo"})");
  EXPECT_NE(other.Line(), "");
}

TEST_F(ServerTest, AnswersOfAllConnectionsAreBounded) {
  ServerOptions options;
  options.max_total_answer_bytes = 1 << 20;
  Server server(options);
  Prepare(server);
  Peer reader(server);
  std::vector<std::unique_ptr<Peer>> peers;
  for (int i = 0; i < 10; ++i) {
    peers.push_back(std::make_unique<Peer>(server));
    peers.back()->Send(R"({"id":1,"method":"big","params":{"size":600000}})");
    for (int step = 0; step < 5; ++step) peers.back()->Step();
  }
  EXPECT_LE(server.connection_count(), 5u);
  reader.Send(R"({"id":1,"method":"big","params":{"size":300000}})");
  EXPECT_GT(reader.Line().size(), 300'000u);
}

TEST_F(ServerTest, ManyConnectionsAtOnce) {
  const std::string path = TempPath();
  ASSERT_TRUE(server_.Listen(path).ok());
  std::vector<std::unique_ptr<Peer>> peers;
  for (int i = 0; i < 50; ++i) {
    peers.push_back(std::make_unique<Peer>(server_, path));
    ASSERT_TRUE(peers.back()->connected);
    peers.back()->Send(R"({"id":1,"method":"big","params":{"size":100000}})");
  }
  for (auto& peer : peers) EXPECT_GT(peer->Line().size(), 100'000u);
}

TEST_F(ServerTest, PollPeriodAnswersInTheNextPoll) {
  ServerOptions options;
  options.poll_period = milliseconds(20);
  Server server(options);
  Prepare(server);
  Peer peer(server);
  peer.Send(R"({"id":1,"method":"echo"})");
  peer.Line();
  // Synchronizes with the polls: a call is then read in the next poll and answered in the one
  // after.
  const auto start = steady_clock::now();
  std::string calls;
  for (int i = 0; i < 50; ++i) calls += R"({"id":1,"method":"echo"})";
  peer.Send(calls);
  EXPECT_EQ(peer.Lines(50).size(), 50u);
  EXPECT_GE(steady_clock::now() - start, milliseconds(30));
}

}  // namespace
}  // namespace sma::jsonrpc
