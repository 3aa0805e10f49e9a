// SPDX-License-Identifier: Apache-2.0

#include "jsonrpc/error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

#include "jsonrpc/protocol.h"

namespace sma::jsonrpc {
namespace {

TEST(TargetErrorTest, KeepsCodeAndWords) {
  absl::Status status = TargetErrorStatus("bdev_get_bdevs", {-ENODEV, "No such device"});
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(status.message(), "bdev_get_bdevs: target error -19: No such device");
  auto error = GetTargetError(status);
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code, -ENODEV);
  EXPECT_EQ(error->message, "No such device");
  EXPECT_FALSE(IsFateUnknown(status));
}

TEST(TargetErrorTest, EmptyMessageAndOddCodes) {
  auto error = GetTargetError(TargetErrorStatus("m", {0, ""}));
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code, 0);
  EXPECT_EQ(error->message, "");
  EXPECT_EQ(TargetErrorStatus("m", {0, ""}).code(), absl::StatusCode::kInternal);
  EXPECT_EQ(TargetErrorStatus("m", {kMethodNotFound, ""}).code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(TargetErrorStatus("m", {12345, ""}).code(), absl::StatusCode::kInternal);
}

TEST(TargetErrorTest, OtherStatusesHaveNone) {
  EXPECT_EQ(GetTargetError(absl::OkStatus()), std::nullopt);
  EXPECT_EQ(GetTargetError(absl::InternalError("x")), std::nullopt);
}

TEST(FateTest, Marked) {
  EXPECT_FALSE(IsFateUnknown(absl::CancelledError("x")));
  EXPECT_TRUE(IsFateUnknown(WithFateUnknown(absl::CancelledError("x"))));
}

}  // namespace
}  // namespace sma::jsonrpc
