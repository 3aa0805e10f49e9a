// SPDX-License-Identifier: Apache-2.0

// Tests that malicious or unusual clients cannot exhaust the server's memory, time or descriptors.

#include <fcntl.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>

#include <atomic>
#include <latch>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "agent/service/testing/http2_connection.h"
#include "agent/service/testing/server_fixture.h"

namespace sma::service {
namespace {

using base::Context;
using std::chrono::hours;
using std::chrono::steady_clock;
using testing::Return;

class UntrustedClientsTest : public ServerFixture {
 protected:
  /// Sends a call from a bare socket, as other gRPC implementations can: gRPC's C++ client sends no
  /// timeout above 27,000 hours. Returns the context's deadline.
  base::TimePoint DeadlineOfCallWith(const std::string& timeout) {
    std::latch called(1);
    base::TimePoint deadline;
    EXPECT_CALL(agent_, DeleteDevice).WillOnce([&](const Context& context, auto&) {
      deadline = context.deadline();
      called.count_down();
      return DeleteDeviceResponse();
    });
    Http2Connection connection(server_->port());
    connection.SendFrame(kHeaders, kEndHeaders, 1,
                         Http2Connection::CallHeaders("DeleteDevice", timeout));
    connection.SendFrame(kData, kEndStream, 1, std::string(5, '\0'));  // an empty message
    const auto until = steady_clock::now() + kPatience;
    while (!called.try_wait() && steady_clock::now() < until) std::this_thread::yield();
    EXPECT_TRUE(called.try_wait()) << timeout << ": answered without a call";
    return deadline;
  }
};

TEST_F(UntrustedClientsTest, ADeadlineOfCenturiesHasNotPassed) {
  StartServer();
  const auto now = steady_clock::now();
  EXPECT_EQ(DeadlineOfCallWith(""), base::TimePoint::max());
  for (const char* timeout : {"99999999H", "9999999H", "2629746H", "99999999M"}) {
    EXPECT_GT(DeadlineOfCallWith(timeout), now + hours(24 * 365 * 99)) << timeout;
  }
  EXPECT_GT(DeadlineOfCallWith("20H"), now + hours(19));
  EXPECT_LT(DeadlineOfCallWith("20H"), now + hours(21));
}

TEST_F(UntrustedClientsTest, ACompressedRequestIsRefused) {
  StartServer();
  EXPECT_CALL(agent_, DeleteDevice).Times(0);
  for (grpc_compression_algorithm algorithm : {GRPC_COMPRESS_GZIP, GRPC_COMPRESS_DEFLATE}) {
    grpc::ClientContext context;
    context.set_compression_algorithm(algorithm);
    context.set_deadline(std::chrono::system_clock::now() + kPatience);
    EXPECT_EQ(Delete(context, std::string(100'000, 'x')).error_code(),
              grpc::StatusCode::UNIMPLEMENTED);
  }
}

/// Counts the log lines that contain a given word during its lifetime.
class LogCounter {
 public:
  explicit LogCounter(std::string word)
      : sink_(std::make_shared<Sink>(std::move(word))), before_(spdlog::default_logger()) {
    spdlog::set_default_logger(std::make_shared<spdlog::logger>("test", sink_));
  }
  ~LogCounter() { spdlog::set_default_logger(before_); }
  LogCounter(const LogCounter&) = delete;
  LogCounter& operator=(const LogCounter&) = delete;

  int count() const { return sink_->count; }

 private:
  struct Sink : spdlog::sinks::base_sink<std::mutex> {
    explicit Sink(std::string counted) : word(std::move(counted)) {}
    void sink_it_(const spdlog::details::log_msg& message) override {
      const std::string_view text(message.payload.data(), message.payload.size());
      if (text.find(word) != std::string_view::npos) ++count;
    }
    void flush_() override {}

    const std::string word;
    std::atomic<int> count = 0;
  };

  std::shared_ptr<Sink> sink_;
  std::shared_ptr<spdlog::logger> before_;
};

TEST_F(UntrustedClientsTest, CompressedRequestsDoNotFillTheLog) {
  StartServer();
  LogCounter grpc_lines("grpc: ");
  const auto begin = steady_clock::now();
  // Earlier tests may have used up the initial burst of lines; after it, one line is logged per
  // second.
  for (int i = 0; i < 200 || (grpc_lines.count() == 0 && steady_clock::now() < begin + kPatience);
       ++i) {
    grpc::ClientContext context;
    context.set_compression_algorithm(GRPC_COMPRESS_GZIP);
    context.set_deadline(std::chrono::system_clock::now() + kPatience);
    EXPECT_FALSE(Delete(context, std::string(1000, 'x')).ok());
  }
  const auto elapsed_s =
      std::chrono::duration_cast<std::chrono::seconds>(steady_clock::now() - begin).count();
  EXPECT_GT(grpc_lines.count(), 0) << "gRPC logs the reason";
  EXPECT_LE(grpc_lines.count(), 22 + elapsed_s);
}

TEST_F(UntrustedClientsTest, RefusedCallsDoNotFillTheLog) {
  constexpr int kCalls = 3000;
  StartServer();
  EXPECT_CALL(agent_, DeleteDevice)
      .WillRepeatedly(Return(absl::InvalidArgumentError("no such handle")));
  LogCounter lines("no such handle");
  const auto begin = steady_clock::now();
  for (int i = 0; i < kCalls; ++i) EXPECT_FALSE(Delete("x").ok());
  const auto elapsed_s =
      std::chrono::duration_cast<std::chrono::seconds>(steady_clock::now() - begin).count();
  EXPECT_GT(lines.count(), 0);
  EXPECT_LE(lines.count(), 1000 + 50 * (elapsed_s + 1));
}

/// Limits the number of descriptors of this process during its lifetime.
class DescriptorLimit {
 public:
  explicit DescriptorLimit(rlim_t limit) {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    const rlimit lower{limit, before_.rlim_max};
    EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &lower), 0);
  }
  ~DescriptorLimit() { ::setrlimit(RLIMIT_NOFILE, &before_); }
  DescriptorLimit(const DescriptorLimit&) = delete;
  DescriptorLimit& operator=(const DescriptorLimit&) = delete;

 private:
  rlimit before_{};
};

TEST_F(UntrustedClientsTest, ConnectionsBeyondTheDescriptorLimitDoNotStopTheListener) {
  DescriptorLimit limit(128);
  StartServer();
  EXPECT_CALL(agent_, DeleteDevice).WillRepeatedly(Return(DeleteDeviceResponse()));
  for (int round = 0; round < 3; ++round) {
    // Uses up the remaining descriptors and the reserve, so that accept(2) itself fails.
    base::UniqueFd waiting(
        ::socket(AF_INET, SOCK_STREAM, 0));  // connected when all other descriptors are in use
    std::vector<base::UniqueFd> all;
    do {
      all.emplace_back(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    } while (all.back());
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_port = htons(server_->port());
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ASSERT_EQ(::connect(waiting.get(), reinterpret_cast<sockaddr*>(&name), sizeof(name)), 0);
    char byte = 0;
    pollfd ended{waiting.get(), POLLIN, 0};
    ASSERT_EQ(::poll(&ended, 1, 20'000), 1) << "the connection is closed, not kept waiting";
    EXPECT_LE(::recv(waiting.get(), &byte, 1, 0), 0);
    all.clear();
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // its own connection
    stub_ = StorageManagementAgent::NewStub(grpc::CreateCustomChannel(
        server_->addresses().front(), grpc::InsecureChannelCredentials(), arguments));
    EXPECT_TRUE(Delete("x").ok()) << "round " << round;
  }
}

TEST_F(UntrustedClientsTest, ManyConnectionsLeaveDescriptorsForTheAgent) {
  DescriptorLimit limit(128);
  StartServer();
  // Client and server are in the same process, so each connection takes two descriptors.
  std::vector<base::UniqueFd> clients;
  for (int i = 0; i < 50; ++i) {
    base::UniqueFd client = ConnectTo(server_->port());
    if (!client) break;
    // A refused connection releases its descriptors.
    pollfd ready{client.get(), POLLIN, 0};
    ASSERT_EQ(::poll(&ready, 1, 20'000), 1)
        << "the server's settings, or the end of the connection";
    char byte = 0;
    if (::recv(client.get(), &byte, 1, 0) > 0) clients.push_back(std::move(client));
  }
  EXPECT_GT(clients.size(), 5u);
  base::UniqueFd own(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  EXPECT_TRUE(own) << "the reserve is for the agent";
}

}  // namespace
}  // namespace sma::service
