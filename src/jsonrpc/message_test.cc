// SPDX-License-Identifier: Apache-2.0

#include "jsonrpc/message.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sma::jsonrpc {
namespace {

using testing::ElementsAre;

TEST(EncodeTest, OneAfterTheOther) {
  const std::vector<Request> requests = {{"a", nullptr}, {"b\"", Json{{"x", 1}}}};
  auto encoded = EncodeRequests(requests, 7, {});
  ASSERT_TRUE(encoded.ok());
  const std::string first = R"({"jsonrpc":"2.0","method":"a","id":7})";
  const std::string second = R"({"jsonrpc":"2.0","method":"b\"","params":{"x":1},"id":8})";
  EXPECT_EQ(encoded->text, first + second);
  EXPECT_THAT(encoded->ends, ElementsAre(first.size(), first.size() + second.size()));
}

TEST(EncodeTest, BatchesKeepWithinTheLimit) {
  const std::vector<Request> requests(5, Request{"m", Json::array()});
  const std::string one = R"({"jsonrpc":"2.0","method":"m","params":[],"id":1})";
  auto encoded = EncodeRequests(requests, 1, {2 * one.size() + 3, true});
  ASSERT_TRUE(encoded.ok()) << encoded.status();
  const size_t pair = 2 * one.size() + 3;
  EXPECT_THAT(encoded->ends,
              ElementsAre(pair, pair, 2 * pair, 2 * pair, 2 * pair + one.size() + 2));
  EXPECT_EQ(encoded->text.substr(0, 2), "[{");
  EXPECT_EQ(encoded->text.substr(pair - 2, 4), "}][{");
  EXPECT_EQ(encoded->text.substr(2 * pair),
            R"([{"jsonrpc":"2.0","method":"m","params":[],"id":5}])");
}

TEST(EncodeTest, ASingleRequestIsNotABatch) {
  const std::vector<Request> requests(1, Request{"m", nullptr});
  EXPECT_EQ(EncodeRequests(requests, 1, {1000, true})->text,
            R"({"jsonrpc":"2.0","method":"m","id":1})");
}

TEST(EncodeTest, RefusesTooLargeAndNotUtf8) {
  const std::vector<Request> large = {{"m", {{"x", std::string(100, 'x')}}}};
  EXPECT_EQ(EncodeRequests(large, 1, {100, false}).status().code(),
            absl::StatusCode::kInvalidArgument);
  const std::vector<Request> latin1 = {{"m", {{"x", "\xe9"}}}};
  absl::Status status = EncodeRequests(latin1, 1, {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "m: the request contains text that is not UTF-8");
}

TEST(DecodeTest, ResultsAndErrors) {
  std::vector<Answer> answers;
  ASSERT_TRUE(DecodeAnswers(*Parse(R"([{"jsonrpc":"2.0","id":1,"result":null},
      {"id":2,"error":{"code":-17,"message":"File exists"}},{"id":3,"error":null,"result":[1]}])"),
                            answers));
  ASSERT_EQ(answers.size(), 3u);
  EXPECT_FALSE(answers[0].failed);
  EXPECT_TRUE(answers[0].result.is_null());
  EXPECT_TRUE(answers[1].failed);
  EXPECT_EQ(answers[1].error.code, -17);
  EXPECT_EQ(answers[1].error.message, "File exists");
  EXPECT_EQ(answers[2].result, Json({1}));
}

TEST(DecodeTest, RejectsInvalidAnswers) {
  for (const char* text :
       {"[]", "[1]", "{}", R"({"id":1})", R"({"result":1})", R"({"id":"1","result":1})",
        R"({"id":-1,"result":1})", R"({"id":1.5,"result":1})", R"({"id":1,"error":1})",
        R"({"id":1,"error":{}})", R"({"id":1,"error":{"code":"1","message":"m"}})",
        R"({"id":1,"error":{"code":1,"message":2}})",
        R"({"id":1,"error":{"code":99999999999,"message":"m"}})",
        R"({"id":null,"error":{"code":-32600,"message":"Invalid request"}})"}) {
    std::vector<Answer> answers;
    EXPECT_FALSE(DecodeAnswers(*Parse(text), answers)) << text;
  }
}

}  // namespace
}  // namespace sma::jsonrpc
