#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "jsonrpc/server_fixture.h"

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

TEST_F(ServerTest, SlowReaderIsHeldBackAndLosesNothing) {
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
  EXPECT_LE(served, 10u);  // 4 MiB wait at most, what the socket took, and one more
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

TEST_F(ServerTest, ConnectionLimit) {
  ServerOptions options;
  options.max_connections = 2;
  Server server(options);
  Prepare(server);
  Peer first(server), second(server), third(server);
  EXPECT_TRUE(third.Closed());
  first.Close();
  while (server.connection_count() > 1) second.Step();
  Peer fourth(server);
  fourth.Send(R"({"id":1,"method":"echo"})");
  EXPECT_NE(fourth.Line(), "");
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

TEST_F(ServerTest, PollPeriodAnswersOnTheNextLook) {
  ServerOptions options;
  options.poll_period = milliseconds(20);
  Server server(options);
  Prepare(server);
  Peer peer(server);
  peer.Send(R"({"id":1,"method":"echo"})");
  peer.Line();
  // In step with the looks from here on: seen at the next one, answered at the one after.
  const auto start = steady_clock::now();
  std::string calls;
  for (int i = 0; i < 50; ++i) calls += R"({"id":1,"method":"echo"})";
  peer.Send(calls);
  EXPECT_EQ(peer.Lines(50).size(), 50u);
  EXPECT_GE(steady_clock::now() - start, milliseconds(30));
}

}  // namespace
}  // namespace sma::jsonrpc
