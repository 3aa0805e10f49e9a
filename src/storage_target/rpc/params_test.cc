// SPDX-License-Identifier: Apache-2.0

#include "storage_target/rpc/params.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sma::storage_target::rpc {
namespace {

using testing::ElementsAre;

TEST(DecodeTest, RequiredAndOptionalMembers) {
  std::string name;
  uint32_t size = 7;
  std::optional<bool> flag;
  auto decode = [&](const char* text) {
    return Decode(Json::parse(text),
                  {Required("name", &name), Optional("size", &size), Optional("flag", &flag)});
  };
  EXPECT_TRUE(decode(R"({"name": "a"})"));
  EXPECT_EQ(name, "a");
  EXPECT_EQ(size, 7U);
  EXPECT_FALSE(flag.has_value());
  EXPECT_TRUE(decode(R"({"name": "b", "size": 8, "flag": false})"));
  EXPECT_EQ(size, 8U);
  EXPECT_EQ(flag, false);
  EXPECT_FALSE(decode(R"({"size": 8})"));
  EXPECT_FALSE(decode(R"({"name": "b", "bogus": 1})"));
  EXPECT_FALSE(decode(R"({"name": 1})"));
  EXPECT_FALSE(decode(R"({"name": null})"));
  EXPECT_FALSE(decode(R"(["b"])"));
  EXPECT_FALSE(decode("null"));
}

TEST(DecodeTest, NullMeansNoParameters) {
  int32_t number = 3;
  EXPECT_TRUE(Decode(Json(), {Optional("number", &number)}));
  EXPECT_TRUE(Decode(Json::object(), {Optional("number", &number)}));
  EXPECT_EQ(number, 3);
}

TEST(DecodeTest, ChecksTheRangeOfNumbers) {
  uint8_t u8 = 0;
  uint64_t u64 = 0;
  int32_t i32 = 0;
  EXPECT_TRUE(FromJson(Json(255), &u8));
  EXPECT_FALSE(FromJson(Json(256), &u8));
  EXPECT_FALSE(FromJson(Json(-1), &u8));
  EXPECT_FALSE(FromJson(Json(1.5), &u8));
  EXPECT_TRUE(FromJson(Json(UINT64_MAX), &u64));
  EXPECT_EQ(u64, UINT64_MAX);
  EXPECT_TRUE(FromJson(Json(-5), &i32));
  EXPECT_EQ(i32, -5);
  EXPECT_FALSE(FromJson(Json(UINT64_MAX), &i32));
  EXPECT_FALSE(FromJson(Json(int64_t{INT32_MIN} - 1), &i32));
}

TEST(DecodeTest, ListsUuidsAndText) {
  std::vector<std::string> names;
  base::Uuid uuid;
  std::string text;
  EXPECT_TRUE(FromJson(Json::parse(R"(["a", "b"])"), &names));
  EXPECT_THAT(names, ElementsAre("a", "b"));
  EXPECT_FALSE(FromJson(Json::parse(R"(["a", 1])"), &names));
  EXPECT_TRUE(FromJson(Json("00000001-1111-4222-8333-444444444444"), &uuid));
  EXPECT_FALSE(FromJson(Json("00000001"), &uuid));
  EXPECT_FALSE(FromJson(Json(std::string("a\0b", 3)), &text));
}

TEST(DecodeTest, IgnoredTakesAnything) {
  EXPECT_TRUE(Decode(Json::parse(R"({"x": [1]})"), {Ignored("x")}));
}

}  // namespace
}  // namespace sma::storage_target::rpc
