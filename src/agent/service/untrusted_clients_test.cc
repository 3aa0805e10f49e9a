// Clients that mean harm, or are odd: they must not take the server's memory, time or descriptors.

#include <fcntl.h>
#include <sys/resource.h>

#include <latch>
#include <thread>
#include <vector>

#include "agent/service/http2_connection.h"
#include "agent/service/server_fixture.h"

namespace sma::service {
namespace {

using base::Context;
using std::chrono::hours;
using std::chrono::steady_clock;
using testing::Return;

class UntrustedClientsTest : public ServerFixture {
 protected:
  /// A call from a bare socket, as other gRPC implementations send it: ours sends no timeout beyond
  /// 27,000 hours. Returns the context's deadline.
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

/// Keeps this process at a limit of descriptors for as long as it lives.
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

TEST_F(UntrustedClientsTest, ConnectionsBeyondTheLimitOfDescriptorsDoNotEndTheListener) {
  DescriptorLimit limit(128);
  StartServer();
  EXPECT_CALL(agent_, DeleteDevice).WillRepeatedly(Return(DeleteDeviceResponse()));
  for (int round = 0; round < 3; ++round) {
    // The rest of the descriptors is used up, the reserve too: accept(2) itself fails.
    base::UniqueFd waiting(
        ::socket(AF_INET, SOCK_STREAM, 0));  // connected when all others are used
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
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // a connection of its own
    stub_ = StorageManagementAgent::NewStub(grpc::CreateCustomChannel(
        server_->addresses().front(), grpc::InsecureChannelCredentials(), arguments));
    EXPECT_TRUE(Delete("x").ok()) << "round " << round;
  }
}

TEST_F(UntrustedClientsTest, ManyConnectionsLeaveDescriptorsForTheAgent) {
  DescriptorLimit limit(128);
  StartServer();
  std::vector<base::UniqueFd> clients;  // in this process, too: each connection takes two
  for (int i = 0; i < 50; ++i) {
    base::UniqueFd client = ConnectTo(server_->port());
    if (!client) break;
    // One that was refused gives its descriptors back.
    pollfd ready{client.get(), POLLIN, 0};
    ASSERT_EQ(::poll(&ready, 1, 20'000), 1) << "the server's settings, or the end";
    char byte = 0;
    if (::recv(client.get(), &byte, 1, 0) > 0) clients.push_back(std::move(client));
  }
  EXPECT_GT(clients.size(), 5u);
  base::UniqueFd own(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  EXPECT_TRUE(own) << "the reserve is the agent's";
}

}  // namespace
}  // namespace sma::service
