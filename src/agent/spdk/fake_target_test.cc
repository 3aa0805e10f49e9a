// SPDX-License-Identifier: Apache-2.0

#include "agent/spdk/testing/fake_target.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <vector>

#include "agent/spdk/json_read.h"
#include "jsonrpc/error.h"

namespace sma::spdk {
namespace {

using base::Context;
using jsonrpc::Json;
using jsonrpc::Request;

std::vector<Json> ReadRecording(const std::string& file) {
  std::ifstream in(std::string(RECORDED_DIR) + "/" + file);
  std::vector<Json> calls;
  for (std::string line; std::getline(in, line);) calls.push_back(Json::parse(line));
  return calls;
}

// Returns true if every member of `actual` is in `expected` with the same value.
bool IsPartOf(const Json& actual, const Json& expected) {
  if (actual.is_object() && expected.is_object()) {
    for (const auto& [name, value] : actual.items()) {
      if (!expected.contains(name) || !IsPartOf(value, expected[name])) return false;
    }
    return true;
  }
  if (actual.is_array() && expected.is_array()) {
    if (actual.size() != expected.size()) return false;
    for (size_t i = 0; i < actual.size(); ++i) {
      if (!IsPartOf(actual[i], expected[i])) return false;
    }
    return true;
  }
  return actual == expected;
}

// Sends a recorded call and compares the answer.
void Replay(FakeTarget& target, const Json& call) {
  absl::StatusOr<Json> answer =
      target.Operator(call["method"], call.value("params", Json::object()));
  if (call.contains("error")) {
    ASSERT_FALSE(answer.ok()) << call;
    auto error = jsonrpc::GetTargetError(answer.status());
    ASSERT_TRUE(error) << call;
    EXPECT_EQ(error->code, call["error"]["code"]) << call;
    EXPECT_EQ(error->message, call["error"]["message"]) << call;
  } else {
    ASSERT_TRUE(answer.ok()) << call << answer.status();
    EXPECT_TRUE(IsPartOf(*answer, call["result"])) << call << "\n" << *answer;
  }
}

TEST(FakeTargetTest, AnswersAsRecorded) {
  FakeTarget target;
  int replayed = 0;
  for (const Json& call : ReadRecording("bdev.jsonl")) {
    bool makes_bdev =
        call["method"] == "bdev_null_create" || call["method"] == "bdev_malloc_create";
    std::string name = StringMember(call.value("params", Json()), "name").value_or("");
    bool finds_bdev = call["method"] == "bdev_get_bdevs" &&
                      call.value("note", "") != "claimed by Pt0" &&
                      (name == "Null0" || name == "Malloc0" || name == "nope");
    if (!makes_bdev && !finds_bdev) continue;
    Replay(target, call);
    ++replayed;
  }
  for (const Json& call : ReadRecording("nvmf.jsonl")) {
    if (call["method"] == "nvmf_get_stats" || call["method"] == "nvmf_subsystem_get_controllers" ||
        call["method"] == "nvmf_subsystem_get_qpairs") {
      continue;
    }
    Replay(target, call);
    ++replayed;
  }
  EXPECT_GT(replayed, 55);
}

TEST(FakeTargetTest, AnswersVhostCallsAsRecorded) {
  FakeTarget target;
  for (const Json& call : ReadRecording("vhost.jsonl")) Replay(target, call);
}

TEST(FakeTargetTest, UnnamedLimitsRemainUnchanged) {
  FakeTarget target;
  target.AddBdev("00000001-1111-4222-8333-444444444444");
  std::vector<Json> calls = ReadRecording("bdev_qos.jsonl");
  Json set = calls[0]["params"];
  set["name"] = "00000001-1111-4222-8333-444444444444";
  EXPECT_TRUE(target.Operator("bdev_set_qos_limit", set).ok());
  auto bdevs = target.Operator("bdev_get_bdevs");
  EXPECT_EQ((*bdevs)[0]["assigned_rate_limits"], calls[1]["result"][0]["assigned_rate_limits"]);
  for (const Json& call : calls) {
    std::string note = call.value("note", "");
    if (note == "unknown bdev") Replay(target, call);
  }
}

const Request kMakeTransport{"nvmf_create_transport", {{"trtype", "tcp"}}};
const Request kMakeSubsystem{"nvmf_create_subsystem", {{"nqn", "nqn.2016-06.io.spdk:a"}}};
const Request kGet{"nvmf_get_subsystems", {{"nqn", "nqn.2016-06.io.spdk:a"}}};

class FaultTest : public testing::Test {
 protected:
  void FailFirst(Fault fault) {
    target_.SetFaultPlan(
        [fault](uint64_t index, const Request&) { return index == 0 ? fault : Fault::kNone; });
  }
  bool Exists() { return target_.Operator(kGet.method, kGet.params).ok(); }

  FakeTarget target_;
  std::vector<Request> requests_{kMakeSubsystem, kGet};
};

TEST_F(FaultTest, RefusedCallHasNoEffectOnOthers) {
  FailFirst(Fault::kRefuse);
  auto results = target_.CallMany(Context::Background(), requests_);
  EXPECT_FALSE(jsonrpc::IsFateUnknown(results[0].status()));
  EXPECT_TRUE(jsonrpc::GetTargetError(results[0].status()));
  EXPECT_FALSE(results[1].ok());
  EXPECT_FALSE(Exists());
  EXPECT_EQ(target_.generation(), 1u);
}

TEST_F(FaultTest, LostAnswerMeansExecuted) {
  FailFirst(Fault::kLoseAnswer);
  auto results = target_.CallMany(Context::Background(), requests_);
  EXPECT_TRUE(jsonrpc::IsFateUnknown(results[0].status()));
  EXPECT_TRUE(jsonrpc::IsFateUnknown(results[1].status()));
  EXPECT_TRUE(Exists());
  EXPECT_EQ(target_.generation(), 2u);
}

TEST_F(FaultTest, DroppedCallIsUnknownAndNotExecuted) {
  FailFirst(Fault::kDropCall);
  auto results = target_.CallMany(Context::Background(), requests_);
  EXPECT_TRUE(jsonrpc::IsFateUnknown(results[0].status()));
  EXPECT_FALSE(Exists());
}

TEST_F(FaultTest, UnsentCallIsKnownToBeUnsent) {
  FailFirst(Fault::kNotSent);
  auto results = target_.CallMany(Context::Background(), requests_);
  EXPECT_EQ(results[0].status().code(), absl::StatusCode::kUnavailable);
  EXPECT_FALSE(jsonrpc::IsFateUnknown(results[0].status()));
  EXPECT_FALSE(Exists());
}

TEST_F(FaultTest, HangingCallEndsWithItsContext) {
  FailFirst(Fault::kHang);
  auto results = target_.CallMany(Context::WithTimeout(std::chrono::milliseconds(5)), requests_);
  EXPECT_EQ(results[0].status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(jsonrpc::IsFateUnknown(results[0].status()));
  EXPECT_TRUE(Exists());
}

TEST_F(FaultTest, RestartLosesAllStateAndReconnects) {
  uint64_t told = 0;
  target_.SetOnConnect([&](uint64_t generation) { told = generation; });
  const std::string empty = target_.Dump();
  ASSERT_TRUE(target_.CallMany(Context::Background(), {&kMakeTransport, 1})[0].ok());
  ASSERT_TRUE(target_.CallMany(Context::Background(), {&kMakeSubsystem, 1})[0].ok());
  EXPECT_NE(target_.Dump(), empty);
  target_.SetDown(true);
  EXPECT_EQ(target_.CallMany(Context::Background(), {&kGet, 1})[0].status().code(),
            absl::StatusCode::kUnavailable);
  target_.SetDown(false);
  EXPECT_TRUE(Exists());
  target_.Restart();
  EXPECT_EQ(target_.Dump(), empty);
  EXPECT_EQ(told, 3u);
}

}  // namespace
}  // namespace sma::spdk
