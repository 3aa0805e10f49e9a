// SPDX-License-Identifier: Apache-2.0

#include "agent/qmp/message.h"

#include <gtest/gtest.h>

namespace sma::qmp {
namespace {

std::optional<Message> DecodeText(const char* text) { return Decode(*jsonrpc::Parse(text)); }

TEST(MessageTest, Encode) {
  EXPECT_EQ(Encode({"query-pci", nullptr}, 7), "{\"execute\":\"query-pci\",\"id\":7}\r\n");
  EXPECT_EQ(Encode({"device_del", {{"id", "a"}}}, 8),
            "{\"arguments\":{\"id\":\"a\"},\"execute\":\"device_del\",\"id\":8}\r\n");
}

TEST(MessageTest, DecodesWhatQemuSends) {
  auto greeting = DecodeText(
      R"({"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}}, "capabilities": []}})");
  ASSERT_TRUE(greeting && std::holds_alternative<Greeting>(*greeting));
  EXPECT_EQ(std::get<Greeting>(*greeting).major_version, 7);
  EXPECT_EQ(std::get<Greeting>(*greeting).minor_version, 2);
  auto event = DecodeText(R"({"event": "DEVICE_DELETED", "data": {"device": "sma-0"}})");
  ASSERT_TRUE(event && std::holds_alternative<Event>(*event));
  EXPECT_EQ(std::get<Event>(*event).data["device"], "sma-0");
  auto answer = DecodeText(R"({"return": {"a": 1}, "id": 3})");
  ASSERT_TRUE(answer && std::holds_alternative<Answer>(*answer));
  EXPECT_EQ(std::get<Answer>(*answer).id, 3u);
  EXPECT_EQ(std::get<Answer>(*answer).result["a"], 1);
  answer = DecodeText(R"({"id": 4, "error": {"class": "DeviceNotFound", "desc": "none"}})");
  ASSERT_TRUE(answer && std::holds_alternative<Answer>(*answer));
  EXPECT_EQ(std::get<Answer>(*answer).error->error_class, "DeviceNotFound");
}

TEST(MessageTest, RefusesOtherInput) {
  for (const char* text :
       {"[]", "{}", R"({"id": 1})", R"({"return": {}})", R"({"return": {}, "id": "x"})",
        R"({"return": {}, "id": -1})", R"({"QMP": 3})", R"({"QMP": {"version": {"qemu": {}}}})",
        R"({"error": {"class": "GenericError", "desc": "no id"}})"}) {
    EXPECT_FALSE(DecodeText(text)) << text;
  }
}

TEST(MessageTest, ErrorsKeepQemusWords) {
  const absl::Status gone = ErrorStatus("device_del", {"DeviceNotFound", "Device 'x' not found"});
  EXPECT_EQ(gone.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(gone.message(), "QEMU: device_del: Device 'x' not found");
  EXPECT_EQ(GetError(gone)->error_class, "DeviceNotFound");
  EXPECT_EQ(GetError(gone)->description, "Device 'x' not found");
  EXPECT_EQ(ErrorStatus("x", {"GenericError", "bad"}).code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(ErrorStatus("x", {"CommandNotFound", "no"}).code(), absl::StatusCode::kUnimplemented);
  EXPECT_FALSE(GetError(absl::InternalError("other")));
}

}  // namespace
}  // namespace sma::qmp
