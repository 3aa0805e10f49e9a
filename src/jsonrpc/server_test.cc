// SPDX-License-Identifier: Apache-2.0

#include "jsonrpc/server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "jsonrpc/testing/server_fixture.h"

namespace sma::jsonrpc {
namespace {

using testing::ElementsAre;

TEST_F(ServerTest, ResultsErrorsAndIds) {
  Peer peer(server_);
  peer.Send(R"({"jsonrpc":"2.0","id":1,"method":"echo","params":{"a":[1]}})");
  EXPECT_EQ(peer.Line(), R"({"jsonrpc":"2.0","id":1,"result":{"a":[1]}})");
  peer.Send(R"({"id":"abc","method":"echo"})");
  EXPECT_EQ(peer.Line(), R"({"jsonrpc":"2.0","id":"abc","result":null})");
  peer.Send(R"({"jsonrpc":"2.0","id":2,"method":"fail"})");
  EXPECT_EQ(peer.Line(),
            R"({"jsonrpc":"2.0","id":2,"error":{"code":-17,"message":"File exists"}})");
}

TEST_F(ServerTest, UnknownMethodAndAnotherRequestInOneWrite) {
  Peer peer(server_);
  peer.Send(R"({"id":1,"method":"nope"}{"id":2,"method":"echo"})");
  EXPECT_THAT(
      peer.Lines(2),
      ElementsAre(
          R"({"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"Method not found"}})",
          R"({"jsonrpc":"2.0","id":2,"result":null})"));
}

TEST_F(ServerTest, NotificationsAreServedAndNotAnswered) {
  Peer peer(server_);
  peer.Send(R"({"method":"later"}{"method":"nope"}{"method":"fail"}{"id":null,"method":"echo"})");
  peer.Send(R"({"id":9,"method":"echo"})");
  EXPECT_EQ(peer.Line(), R"({"jsonrpc":"2.0","id":9,"result":null})");
  ASSERT_EQ(later_.size(), 1u);
  later_[0].Result(1);
  peer.Send(R"({"id":10,"method":"echo"})");
  EXPECT_EQ(peer.Line(), R"({"jsonrpc":"2.0","id":10,"result":null})");
}

TEST_F(ServerTest, InvalidRequests) {
  const std::string with_id =
      R"({"jsonrpc":"2.0","id":1,"error":{"code":-32600,"message":"Invalid request"}})";
  const std::string null_id =
      R"({"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"Invalid request"}})";
  Peer peer(server_);
  for (const char* text :
       {R"({"id":1})", R"({"id":1,"method":5})", R"({"id":1,"method":"echo","params":"text"})",
        R"({"id":1,"method":"echo","more":1})", R"({"id":1,"jsonrpc":"1.0","method":"echo"})"}) {
    peer.Send(text);
    EXPECT_EQ(peer.Line(), with_id) << text;
  }
  for (const char* text :
       {"{}", R"({"id":true,"method":"echo"})", R"({"id":{},"method":"echo"})", "[]"}) {
    peer.Send(text);
    EXPECT_EQ(peer.Line(), null_id) << text;
  }
}

TEST_F(ServerTest, HandlerThatThrowsOrDropsAnswersInternalError) {
  Peer peer(server_);
  for (const char* method : {"drop", "throw"}) {
    peer.Send(R"({"id":1,"method":")" + std::string(method) + R"(","params":{}})");
    EXPECT_EQ(peer.Line(),
              R"({"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"Internal error"}})");
  }
}

TEST_F(ServerTest, BatchIsAnsweredWhenAllAreDone) {
  Peer peer(server_);
  peer.Send(R"([{"id":1,"method":"later"},{"id":2,"method":"echo"},{"method":"echo"},5])");
  peer.Send(R"({"id":3,"method":"echo"})");
  EXPECT_EQ(peer.Line(), R"({"jsonrpc":"2.0","id":3,"result":null})");
  ASSERT_EQ(later_.size(), 1u);
  later_[0].Result(true);
  EXPECT_EQ(Parse(peer.Line()), Parse(R"([{"jsonrpc":"2.0","id":2,"result":null},
                      {"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"Invalid request"}},
                      {"jsonrpc":"2.0","id":1,"result":true}])"));
}

TEST_F(ServerTest, BatchOfNotificationsIsNotAnswered) {
  Peer peer(server_);
  peer.Send(R"([{"method":"echo"},{"method":"nope"}]{"id":1,"method":"echo"})");
  EXPECT_EQ(peer.Line(), R"({"jsonrpc":"2.0","id":1,"result":null})");
}

TEST_F(ServerTest, JunkClosesTheConnectionAfterEarlierAnswers) {
  for (const char* junk : {"junk", "{]", "[1,]", "1", "\"\"", "\xff"}) {
    Peer peer(server_);
    peer.Send(R"({"id":1,"method":"echo"})" + std::string(junk));
    EXPECT_EQ(peer.Line(), R"({"jsonrpc":"2.0","id":1,"result":null})") << junk;
    EXPECT_TRUE(peer.Closed()) << junk;
    EXPECT_EQ(server_.connection_count(), 0u);
  }
}

TEST_F(ServerTest, AnswersAfterTheConnectionOrTheServerIsDestroyed) {
  auto server = std::make_unique<Server>();
  Prepare(*server);
  {
    Peer peer(*server);
    peer.Send(R"({"id":1,"method":"later"}{"id":2,"method":"later"}[{"id":3,"method":"later"}])");
    while (later_.size() < 3) peer.Step();
    peer.Close();
    while (server->connection_count() > 0) peer.Step();
  }
  later_[0].Result("x");
  later_[0].Error(-1, "again");
  server.reset();
  later_[1].Error(-1, "x");
  later_.clear();
}

TEST_F(ServerTest, HalfClosedPeerGetsItsAnswers) {
  Peer peer(server_);
  peer.Send(R"({"id":1,"method":"later"})");
  peer.Shutdown();
  while (later_.empty()) peer.Step();
  for (int i = 0; i < 3; ++i) peer.Step();
  later_[0].Result(1);
  EXPECT_EQ(peer.Line(), R"({"jsonrpc":"2.0","id":1,"result":1})");
  EXPECT_TRUE(peer.Closed());
  EXPECT_EQ(server_.connection_count(), 0u);
}

TEST_F(ServerTest, RequestsOfOneConnectionStartInOrder) {
  std::vector<int> started;
  server_.Register("note", [&](const Json& params, Responder responder) {
    started.push_back(params[0].get<int>());
    responder.Result(true);
  });
  Peer peer(server_);
  std::string requests;
  for (int i = 0; i < 500; ++i) {
    requests += R"({"id":1,"method":"note","params":[)" + std::to_string(i) + "]}";
  }
  peer.Send(requests);
  EXPECT_EQ(peer.Lines(500).size(), 500u);
  ASSERT_EQ(started.size(), 500u);
  EXPECT_TRUE(std::is_sorted(started.begin(), started.end()));
}

TEST_F(ServerTest, TextThatIsNotUtf8IsReplaced) {
  server_.Register("latin1", [](const Json&, Responder responder) { responder.Result("caf\xe9"); });
  Peer peer(server_);
  peer.Send(R"({"id":1,"method":"latin1"})");
  EXPECT_EQ(peer.Line(), "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":\"caf\xEF\xBF\xBD\"}");
}

}  // namespace
}  // namespace sma::jsonrpc
