// SPDX-License-Identifier: Apache-2.0

#include "agent/qmp/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <memory>

#include "agent/qmp/testing/fake_qemu.h"
#include "jsonrpc/error.h"

namespace sma::qmp {
namespace {

using base::Context;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

class QmpClientTest : public testing::Test {
 protected:
  Client& StartClient() {
    options_.address = qemu_.address();
    client_ = std::make_unique<Client>(options_);
    return *client_;
  }
  template <typename Condition>
  static void WaitFor(Condition condition) {
    const auto until = std::chrono::steady_clock::now() + seconds(20);
    while (!condition()) {
      ASSERT_LT(std::chrono::steady_clock::now(), until) << "waited too long";
      std::this_thread::sleep_for(milliseconds(1));
    }
  }

  const Context context_ = Context::WithTimeout(seconds(20));
  FakeQemu qemu_;
  ClientOptions options_{.retry_pause = milliseconds(5)};
  std::unique_ptr<Client> client_;
};

TEST_F(QmpClientTest, AnswersAndErrors) {
  Client& client = StartClient();
  EXPECT_FALSE(qemu_.has_client());
  EXPECT_EQ(client.WaitConnected(context_)->major_version, 7);
  EXPECT_TRUE(client.Execute(context_, {"query-chardev", nullptr}).ok());
  auto failed = client.Execute(context_, {"chardev-remove", {{"id", "x"}}});
  EXPECT_EQ(failed.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(GetError(failed.status())->description, "Chardev 'x' not found");
  EXPECT_FALSE(jsonrpc::IsFateUnknown(failed.status()));
  EXPECT_EQ(qemu_.connections(), 1);
}

TEST_F(QmpClientTest, OverAUnixSocket) {
  const std::string path =
      std::filesystem::temp_directory_path() / ("qmp_test." + std::to_string(::getpid()) + ".sock");
  FakeQemu qemu(path);
  Client client({.address = qemu.address()});
  EXPECT_EQ(client.address().ToString(), "unix:" + path);
  EXPECT_TRUE(client.Execute(context_, {"query-pci", nullptr}).ok());
}

TEST_F(QmpClientTest, CallersShareOneSession) {
  Client& client = StartClient();
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 50; ++i) {
        const std::string id = "c" + std::to_string(t) + "." + std::to_string(i);
        const std::vector<Command> commands{{"chardev-add", {{"id", id}}},
                                            {"no-such-command", nullptr},
                                            {"chardev-remove", {{"id", id}}}};
        const auto results = client.ExecuteMany(context_, commands);
        wrong +=
            !results[0].ok() || !absl::IsUnimplemented(results[1].status()) || !results[2].ok();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(qemu_.connections(), 1);
}

TEST_F(QmpClientTest, NothingListens) {
  options_.connect_wait = milliseconds(30);
  qemu_.Kill();
  Client& client = StartClient();
  EXPECT_FALSE(client.unreachable_since());
  auto result = client.Execute(context_, {"query-pci", nullptr});
  EXPECT_EQ(result.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(result.status().message()), HasSubstr("Connection refused"));
  EXPECT_FALSE(jsonrpc::IsFateUnknown(result.status()));
  EXPECT_TRUE(client.unreachable_since());
  qemu_.Start();
  options_.connect_wait = seconds(20);
  EXPECT_TRUE(StartClient().Execute(context_, {"query-pci", nullptr}).ok());
  EXPECT_FALSE(client_->unreachable_since());
}

TEST_F(QmpClientTest, ServesAnotherClient) {
  options_.connect_wait = milliseconds(200);
  options_.greeting_wait = milliseconds(20);
  qemu_.SetGreets(false);
  auto result = StartClient().Execute(context_, {"query-pci", nullptr});
  EXPECT_EQ(result.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(result.status().message()), HasSubstr("another client"));
}

TEST_F(QmpClientTest, ClosesAnIdleSession) {
  options_.idle_time = milliseconds(10);
  Client& client = StartClient();
  ASSERT_TRUE(client.Execute(context_, {"query-pci", nullptr}).ok());
  WaitFor([&] { return !qemu_.has_client(); });
  ASSERT_TRUE(client.Execute(context_, {"query-pci", nullptr}).ok());
  EXPECT_EQ(qemu_.connections(), 2);
}

TEST_F(QmpClientTest, SessionLostWhileWaiting) {
  Client& client = StartClient();
  qemu_.Swallow("query-pci");
  std::thread dropper([&] {
    WaitFor([&] { return !qemu_.commands().empty(); });
    qemu_.DropClient();
  });
  auto result = client.Execute(context_, {"query-pci", nullptr});
  dropper.join();
  EXPECT_EQ(result.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(jsonrpc::IsFateUnknown(result.status()));
  EXPECT_TRUE(client.Execute(context_, {"query-chardev", nullptr}).ok());
}

TEST_F(QmpClientTest, DeadlineAndCancel) {
  Client& client = StartClient();
  qemu_.Swallow("query-pci");
  auto result = client.Execute(Context::WithTimeout(milliseconds(50)), {"query-pci", nullptr});
  EXPECT_EQ(result.status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(jsonrpc::IsFateUnknown(result.status()));
  Context cancelled = Context::Background();
  std::thread canceller([&] {
    WaitFor([&] { return qemu_.commands().size() == 2; });
    cancelled.Cancel();
  });
  result = client.Execute(cancelled, {"query-pci", nullptr});
  canceller.join();
  EXPECT_EQ(result.status().code(), absl::StatusCode::kCancelled);
  result = client.Execute(cancelled, {"query-chardev", nullptr});
  EXPECT_EQ(result.status().code(), absl::StatusCode::kCancelled);
  EXPECT_FALSE(jsonrpc::IsFateUnknown(result.status()));
  EXPECT_TRUE(client.Execute(context_, {"query-chardev", nullptr}).ok());
}

TEST_F(QmpClientTest, Defect22_EventBeforeTheAnswerIsKept) {
  Client& client = StartClient();
  qemu_.SetGuest(FakeQemu::Guest::kReleasesBeforeAnswer);
  ASSERT_TRUE(
      client.Execute(context_, {"device_add", {{"id", "d"}, {"bus", "bus0"}, {"addr", "1"}}}).ok());
  Client::EventWatch watch(client, {"DEVICE_DELETED"});
  Client::EventWatch other(client, {"SHUTDOWN"});
  ASSERT_TRUE(client.Execute(context_, {"device_del", {{"id", "d"}}}).ok());
  EXPECT_EQ(watch.Next(context_)->data["path"], "/machine/peripheral/d/virtio-backend");
  EXPECT_EQ(watch.Next(context_)->data["device"], "d");
  EXPECT_TRUE(absl::IsDeadlineExceeded(other.Next(Context::WithTimeout(milliseconds(5))).status()));
}

TEST_F(QmpClientTest, WatchReportsThatEventsMayHaveBeenMissed) {
  Client& client = StartClient();
  Client::EventWatch watch(client, {"DEVICE_DELETED"});
  ASSERT_TRUE(client.WaitConnected(context_).ok());
  qemu_.DropClient();
  EXPECT_TRUE(absl::IsUnavailable(watch.Next(context_).status()));
}

TEST(AddressTest, Text) {
  EXPECT_EQ((Address{.host = "::1", .port = 4444, .path = ""}).ToString(), "[::1]:4444");
  EXPECT_EQ((Address{.host = "h", .port = 1, .path = ""}).ToString(), "h:1");
}

TEST_F(QmpClientTest, Defect47_AMuteQemuIsNotQueriedForAWhile) {
  options_.answer_wait = milliseconds(50);
  options_.mute_pause = seconds(60);
  options_.max_mute_pause = seconds(60);
  qemu_.Swallow("query-chardev");
  Client& client = StartClient();
  absl::Status status = client.Execute(context_, {"query-chardev", nullptr}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("does not answer"));
  EXPECT_TRUE(jsonrpc::IsFateUnknown(status));
  EXPECT_TRUE(client.unreachable_since().has_value());
  // The session is closed, and the second call does not wait.
  WaitFor([&] { return !qemu_.has_client(); });
  const auto start = std::chrono::steady_clock::now();
  status = client.Execute(context_, {"query-pci", nullptr}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
  EXPECT_FALSE(jsonrpc::IsFateUnknown(status));
  EXPECT_LT(std::chrono::steady_clock::now() - start, seconds(10));
  EXPECT_EQ(qemu_.connections(), 1);
}

TEST_F(QmpClientTest, AMuteQemuThatAnswersAgainIsUsedAgain) {
  options_.answer_wait = milliseconds(50);
  options_.mute_pause = milliseconds(20);
  qemu_.Swallow("query-chardev");
  Client& client = StartClient();
  EXPECT_FALSE(client.Execute(context_, {"query-chardev", nullptr}).ok());
  qemu_.Swallow("");
  WaitFor([&] { return client.Execute(context_, {"query-chardev", nullptr}).ok(); });
  EXPECT_FALSE(client.unreachable_since().has_value());
}

}  // namespace
}  // namespace sma::qmp
