#include "target/rpc/config_loader.h"

#include <gtest/gtest.h>

#include <optional>

#include "jsonrpc/server.h"

namespace sma::target::rpc {
namespace {

class ConfigLoaderTest : public testing::Test {
 protected:
  void SetUp() override {
    auto note = [this](const Json& params) -> RpcResult {
      if (params == "fail") return RpcError{-32602, "no good"};
      made_.push_back(params);
      return Json(true);
    };
    server_.Register("early", note, Phase::kStartup);
    server_.Register("now", note);
    server_.RegisterAsync("later", [this](const Json& params, const Reply& reply) {
      made_.push_back(params);
      waiting_ = reply;
    });
  }

  absl::StatusOr<ConfigLoader> Parse(std::string_view text) {
    return ConfigLoader::Parse(server_, text);
  }

  void Run(ConfigLoader& loader) {
    ended_.reset();
    loader.Run([this](absl::Status status) { ended_ = std::move(status); });
  }

  jsonrpc::Server jsonrpc_;
  RpcServer server_{jsonrpc_};
  std::vector<Json> made_;
  std::optional<Reply> waiting_;
  std::optional<absl::Status> ended_;
};

TEST_F(ConfigLoaderTest, MakesTheCallsOfEachPhaseInTheirOrder) {
  auto loader = Parse(R"(// comment
    {"subsystems": [{"subsystem": "a", "config": [
        {"method": "now", "params": 1}, [{"method": "early", "params": 2}, {"method": "later", "params": 3}]]},
      {"subsystem": "b", "config": null}, /* and so on */
      {"subsystem": "c", "config": [{"method": "now", "params": "// \" /* text */"}]}]})");
  ASSERT_TRUE(loader.ok()) << loader.status();
  Run(*loader);
  EXPECT_EQ(made_, std::vector<Json>{2});
  ASSERT_TRUE(ended_ && ended_->ok());

  server_.set_phase(Phase::kRuntime);
  Run(*loader);
  EXPECT_EQ(made_, (std::vector<Json>{2, 1, 3})) << "the one after waits for the answer";
  EXPECT_FALSE(ended_);
  (*waiting_)(Json(true));
  EXPECT_EQ(made_, (std::vector<Json>{2, 1, 3, "// \" /* text */"}));
  ASSERT_TRUE(ended_ && ended_->ok());
}

TEST_F(ConfigLoaderTest, TheFirstErrorEndsIt) {
  server_.set_phase(Phase::kRuntime);
  auto loader = Parse(R"({"subsystems": [{"config": [{"method": "now", "params": "fail"},
                                                     {"method": "now", "params": 1}]}]})");
  ASSERT_TRUE(loader.ok()) << loader.status();
  Run(*loader);
  ASSERT_TRUE(ended_);
  EXPECT_EQ(ended_->message(), "now: no good (-32602)");
  EXPECT_TRUE(made_.empty());
}

TEST_F(ConfigLoaderTest, WhatIsNoConfigurationIsRefusedWithTheReason) {
  auto refused = [this](std::string_view text) {
    auto loader = Parse(text);
    return std::string(loader.ok() ? "taken" : loader.status().message());
  };
  EXPECT_EQ(refused(""), "not a JSON text");
  EXPECT_EQ(refused("{} /* open"), "no list \"subsystems\"");
  EXPECT_EQ(refused("[]"), "no list \"subsystems\"");
  EXPECT_EQ(refused(R"({"subsystems": {}})"), "no list \"subsystems\"");
  EXPECT_EQ(refused(R"({"subsystems": [1]})"), "a subsystem without \"config\"");
  EXPECT_EQ(refused(R"({"subsystems": [{"config": 1}]})"), "\"config\" is no list");
  EXPECT_EQ(refused(R"({"subsystems": [{"config": [[1]]}]})"), "a call without \"method\"");
  EXPECT_EQ(refused(R"({"subsystems": [{"config": [{"method": "none"}]}]})"),
            "unknown method none");
}

}  // namespace
}  // namespace sma::target::rpc
