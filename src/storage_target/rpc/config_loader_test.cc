// SPDX-License-Identifier: Apache-2.0

#include "storage_target/rpc/config_loader.h"

#include <gtest/gtest.h>

#include <optional>

#include "jsonrpc/server.h"

namespace sma::storage_target::rpc {
namespace {

class ConfigLoaderTest : public testing::Test {
 protected:
  void SetUp() override {
    auto note = [this](const Json& params) -> RpcResult {
      if (params == "fail") return RpcError{-32602, "no good"};
      made_.push_back(params);
      return Json(true);
    };
    for (const char* name : {"a", "b", "c"}) server_.AddSubsystem({name, {}});
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

TEST_F(ConfigLoaderTest, RunsTheCallsOfEachPhaseInOrder) {
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
  EXPECT_EQ(made_, (std::vector<Json>{2, 1, 3})) << "the next call waits for the reply";
  EXPECT_FALSE(ended_);
  (*waiting_)(Json(true));
  EXPECT_EQ(made_, (std::vector<Json>{2, 1, 3, "// \" /* text */"}));
  ASSERT_TRUE(ended_ && ended_->ok());
}

TEST_F(ConfigLoaderTest, StopsAtTheFirstError) {
  server_.set_phase(Phase::kRuntime);
  auto loader = Parse(R"({"subsystems": [{"config": [{"method": "now", "params": "fail"},
                                                     {"method": "now", "params": 1}]}]})");
  ASSERT_TRUE(loader.ok()) << loader.status();
  Run(*loader);
  ASSERT_TRUE(ended_);
  EXPECT_EQ(ended_->message(), "entry 1: now: no good (-32602)");
  EXPECT_TRUE(made_.empty());
}

TEST_F(ConfigLoaderTest, RefusesInvalidConfigurationsWithAReason) {
  auto refused = [this](std::string_view text) {
    auto loader = Parse(text);
    return std::string(loader.ok() ? "taken" : loader.status().message());
  };
  EXPECT_EQ(refused(""), "invalid JSON in line 1, column 1");
  EXPECT_EQ(refused("{\"subsystems\": [\n  // [\n  {\"config\" []}]}"),
            "invalid JSON in line 3, column 13");
  EXPECT_EQ(refused("{} /* open"), "\"subsystems\" is missing or not a list");
  EXPECT_EQ(refused("[]"), "\"subsystems\" is missing or not a list");
  EXPECT_EQ(refused(R"({"subsystems": {}})"), "\"subsystems\" is missing or not a list");
  EXPECT_EQ(refused(R"({"subsystems": [1]})"), "a subsystem has no \"config\"");
  EXPECT_EQ(refused(R"({"subsystems": [{"config": 1}]})"), "\"config\" is not a list");
  EXPECT_EQ(refused(R"({"subsystems": [{"subsystem": "a", "config": 1}]})"),
            "subsystem a, \"config\" is not a list");
  EXPECT_EQ(refused(R"({"subsystems": [{"config": [[1]]}]})"), "entry 1: a call has no \"method\"");
}

TEST_F(ConfigLoaderTest, SkipsSubsystemsThatTheTargetDoesNotHave) {
  server_.set_phase(Phase::kRuntime);
  auto loader = Parse(R"({"subsystems": [{"subsystem": "ublk", "config": [{"method": "none"}]},
      {"subsystem": "a", "config": [{"method": "now", "params": 1}]}]})");
  ASSERT_TRUE(loader.ok()) << loader.status();
  Run(*loader);
  EXPECT_TRUE(ended_ && ended_->ok());
  EXPECT_EQ(made_, std::vector<Json>{1});
}

TEST_F(ConfigLoaderTest, LeavesOutWhatIsNotSupportedAndWhatNeedsIt) {
  server_.Register("make_create", [](const Json&) { return RpcResult(NotSupported("dif_type")); });
  server_.set_phase(Phase::kRuntime);
  auto loader = Parse(R"({"subsystems": [{"subsystem": "a", "config": [
      {"method": "make_create", "params": {"name": "disk", "uuid": "u"}},
      {"method": "now", "params": {"namespace": {"bdev_name": "u"}}},
      {"method": "make_create", "params": {"name": "layer", "base_bdev_name": "disk"}},
      {"method": "now", "params": {"dev_name": "layer"}},
      {"method": "now", "params": {"dev_name": "other"}}]}]})");
  ASSERT_TRUE(loader.ok()) << loader.status();
  Run(*loader);
  EXPECT_TRUE(ended_ && ended_->ok());
  EXPECT_EQ(made_, std::vector<Json>({{{"dev_name", "other"}}}));
}

TEST_F(ConfigLoaderTest, AnUnknownMethodIsAnErrorOfItsCall) {
  server_.set_phase(Phase::kRuntime);
  constexpr std::string_view kText = R"({"subsystems": [{"subsystem": "a", "config": [
      {"method": "now", "params": 1}, {"method": "none"}, {"method": "now", "params": 2}]}]})";
  auto loader = Parse(kText);
  ASSERT_TRUE(loader.ok()) << loader.status();
  Run(*loader);
  ASSERT_TRUE(ended_);
  EXPECT_EQ(ended_->message(), "subsystem a, entry 2: none: Method not found (-32601)");
  EXPECT_EQ(made_, std::vector<Json>{1});
  loader = Parse(kText);
  loader->Run([](const absl::Status&) {}, [](const absl::Status&) { return true; });
  EXPECT_EQ(made_, (std::vector<Json>{1, 1, 2}));
}

TEST_F(ConfigLoaderTest, GoesOnAfterEachErrorIfAsked) {
  server_.Register("bad", [](const Json&) { return RpcResult(InvalidParams()); });
  server_.set_phase(Phase::kRuntime);
  constexpr std::string_view kText = R"({"subsystems": [{"subsystem": "a", "config": [
      {"method": "bad", "params": {"name": "disk0"}}, {"method": "now", "params": 1},
      {"method": "bad"}, {"method": "now", "params": 2}]}]})";
  auto loader = Parse(kText);
  ASSERT_TRUE(loader.ok()) << loader.status();
  std::vector<std::string> errors;
  bool goes_on = true;
  auto run = [&] {
    ended_.reset();
    loader->Run([this](absl::Status status) { ended_ = std::move(status); },
                [&](const absl::Status& error) {
                  errors.emplace_back(error.message());
                  return goes_on;
                });
  };
  run();
  EXPECT_TRUE(ended_ && ended_->ok());
  EXPECT_EQ(made_, (std::vector<Json>{1, 2}));
  ASSERT_EQ(errors.size(), 2u);
  EXPECT_EQ(errors[0], "subsystem a, entry 1: bad of disk0: Invalid parameters (-32602)");

  loader = Parse(kText);
  goes_on = false;
  run();
  ASSERT_TRUE(ended_);
  EXPECT_EQ(ended_->message(), errors[0]);
  EXPECT_EQ(made_.size(), 2u) << "nothing runs after the error";
}

}  // namespace
}  // namespace sma::storage_target::rpc
