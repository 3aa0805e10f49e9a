// SPDX-License-Identifier: Apache-2.0

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <chrono>
#include <optional>
#include <thread>

#include "jsonrpc/error.h"
#include "jsonrpc/splitter.h"
#include "jsonrpc/testing/client_fixture.h"
#include "jsonrpc/unix_listener.h"

namespace sma::jsonrpc {
namespace {

using base::Context;
using std::chrono::milliseconds;
using testing::HasSubstr;

// A target whose every byte is controlled by the test.
class RawTargetTest : public ClientTest {
 protected:
  RawTargetTest() {
    listener_ = *UnixListener::Open(options_.socket_path, 0600);
    StartClient();
    WaitFor([&] { return listener_->Accept(peer_) == UnixListener::Outcome::kAccepted; });
  }

  std::thread CallInThread(absl::Status& status, Context context, Json params = nullptr) {
    return std::thread([&status, context, params, this] {
      status = client_->Call(context, "m", params).status();
    });
  }

  // Returns the id of the next request.
  uint64_t ReadRequest() {
    std::string_view text;
    while (input_->Next(text) != Splitter::Outcome::kValue) {
      char buffer[4096];
      WaitFor([&] {
        ssize_t count = ::recv(peer_.get(), buffer, sizeof(buffer), 0);
        if (count > 0) input_->Append({buffer, static_cast<size_t>(count)});
        return count > 0;
      });
    }
    return (*Parse(text))["id"];
  }

  void Send(std::string_view bytes) {
    ASSERT_EQ(::send(peer_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }

  std::unique_ptr<UnixListener> listener_;
  base::UniqueFd peer_;
  std::optional<Splitter> input_{1 << 20};
};

TEST_F(RawTargetTest, AnswerInSingleBytes) {
  absl::Status status;
  std::thread caller = CallInThread(status, Context::Background());
  const std::string answer =
      R"({"jsonrpc":"2.0","id":)" + std::to_string(ReadRequest()) + R"(,"result":{"a":"}"}})";
  for (char c : answer) Send({&c, 1});
  caller.join();
  EXPECT_TRUE(status.ok()) << status;
}

TEST_F(RawTargetTest, GarbageClosesTheConnection) {
  for (const char* garbage :
       {"junk", "{]", "[]", "[5]", "{}", R"({"id":99999,"result":1})", R"({"id":0,"result":1})",
        R"({"id":null,"error":{"code":-32600,"message":"Invalid request"}})"}) {
    absl::Status status;
    std::thread caller = CallInThread(status, Context::Background());
    ReadRequest();
    Send(garbage);
    caller.join();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << garbage;
    EXPECT_TRUE(IsFateUnknown(status)) << garbage;
    WaitFor([&] { return listener_->Accept(peer_) == UnixListener::Outcome::kAccepted; });
    input_.emplace(1 << 20);
  }
}

TEST_F(RawTargetTest, OversizedAnswerClosesTheConnection) {
  options_.max_answer_bytes = 1000;
  StartClient();
  WaitFor([&] { return listener_->Accept(peer_) == UnixListener::Outcome::kAccepted; });
  absl::Status status;
  std::thread caller = CallInThread(status, Context::Background());
  ReadRequest();
  Send("[\"" + std::string(1000, 'x'));
  caller.join();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("too large"));
}

TEST_F(RawTargetTest, StuckTargetBlocksNobody) {
  const Json params = {std::string(200'000, 'x')};
  std::vector<absl::Status> statuses(8);
  std::vector<std::thread> callers;
  for (absl::Status& status : statuses) {
    callers.push_back(CallInThread(status, Context::WithTimeout(milliseconds(1000)), params));
  }
  for (std::thread& caller : callers) caller.join();
  int unknown = 0;
  for (const absl::Status& status : statuses) {
    EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
    unknown += IsFateUnknown(status);
  }
  EXPECT_GE(unknown, 1);
  EXPECT_LT(unknown, 8) << "the socket cannot have taken them all";

  // Requests of which nothing had been sent were dropped: when the target continues to read, the
  // next request follows those that had been sent in part.
  absl::Status status;
  std::thread caller = CallInThread(status, Context::Background());
  uint64_t last = 0;
  for (int i = 0; i <= unknown; ++i) last = ReadRequest();
  Send(R"({"id":)" + std::to_string(last) + R"(,"result":1})");
  caller.join();
  EXPECT_TRUE(status.ok()) << status;
}

TEST_F(RawTargetTest, LostConnectionReportsWhatWasSent) {
  std::vector<Request> requests(20, Request{"m", {std::string(100'000, 'x')}});
  std::vector<absl::StatusOr<Json>> results;
  std::thread caller([&] { results = client_->CallMany(Context::Background(), requests); });
  ReadRequest();
  peer_.Reset();
  caller.join();
  ASSERT_EQ(results.size(), 20u);
  EXPECT_TRUE(IsFateUnknown(results.front().status()));
  EXPECT_FALSE(IsFateUnknown(results.back().status()));
  for (auto& result : results) EXPECT_EQ(result.status().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace sma::jsonrpc
