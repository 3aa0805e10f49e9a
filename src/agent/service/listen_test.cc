// SPDX-License-Identifier: Apache-2.0

#include "agent/service/listen.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <filesystem>
#include <fstream>

#include "agent/service/testing/server_fixture.h"

namespace sma::service {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Return;

/// A temporary folder; deleted by the destructor.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = testing::TempDir() + "sma_listen_XXXXXX";
    path_ = mkdtemp(name.data());
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

TEST(Listen, NumericAddressesAndPorts) {
  auto ipv4 = ReserveListenAddresses("127.0.0.1", 0);
  ASSERT_TRUE(ipv4.ok()) << ipv4.status();
  EXPECT_NE(ipv4->port, 0);
  EXPECT_THAT(ipv4->addresses, ElementsAre("127.0.0.1:" + std::to_string(ipv4->port)));
  EXPECT_TRUE(ipv4->is_local);

  auto ipv6 = ReserveListenAddresses("::1", 0);
  ASSERT_TRUE(ipv6.ok()) << ipv6.status();
  EXPECT_THAT(ipv6->addresses, ElementsAre("[::1]:" + std::to_string(ipv6->port)));

  auto any = ReserveListenAddresses("0.0.0.0", 0);
  ASSERT_TRUE(any.ok()) << any.status();
  EXPECT_FALSE(any->is_local);
}

TEST(Listen, EveryAddressOfANameHasTheSamePort) {
  auto both = ReserveListenAddresses("localhost", 0);
  ASSERT_TRUE(both.ok()) << both.status();
  ASSERT_FALSE(both->addresses.empty());
  EXPECT_EQ(both->addresses.size(), both->reserved.size());
  for (const std::string& address : both->addresses) {
    EXPECT_THAT(address, testing::EndsWith(":" + std::to_string(both->port)));
  }
  EXPECT_TRUE(both->is_local);
}

TEST(Listen, RefusesInvalidAddresses) {
  EXPECT_EQ(ReserveListenAddresses("no.such.host.invalid", 1).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(ReserveListenAddresses("192.0.2.1", 1).ok()) << "not an address of this host";
}

using ListenServerTest = ServerFixture;

TEST_F(ListenServerTest, APortInUseIsRefused) {
  StartServer();
  GrpcServerOptions options;
  options.address = "127.0.0.1";
  options.port = server_->port();
  auto second = GrpcServer::Start(agent_, admin_, options);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(server_->addresses().front()));
  server_->Stop(kPatience);
  second = GrpcServer::Start(agent_, admin_, options);
  EXPECT_TRUE(second.ok()) << "available after the stop: " << second.status();
}

TEST_F(ListenServerTest, APortInUseWithReuseportIsRefused) {
  base::UniqueFd fd(socket(AF_INET, SOCK_STREAM, 0));
  int one = 1;
  ASSERT_EQ(setsockopt(fd.get(), SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)), 0);
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(name);
  ASSERT_EQ(bind(fd.get(), reinterpret_cast<sockaddr*>(&name), length), 0);
  ASSERT_EQ(listen(fd.get(), 1), 0);
  ASSERT_EQ(getsockname(fd.get(), reinterpret_cast<sockaddr*>(&name), &length), 0);
  GrpcServerOptions options;
  options.address = "127.0.0.1";
  options.port = ntohs(name.sin_port);
  EXPECT_EQ(GrpcServer::Start(agent_, admin_, options).status().code(),
            absl::StatusCode::kAlreadyExists);
}

TEST_F(ListenServerTest, Ipv6IsServed) {
  GrpcServerOptions options;
  options.address = "::1";
  StartServer(options);
  EXPECT_CALL(agent_, DeleteDevice).WillOnce(Return(DeleteDeviceResponse()));
  EXPECT_TRUE(Delete("x").ok());
}

TEST_F(ListenServerTest, AUnixSocketIsServedAndNotTakenFromARunningServer) {
  TemporaryFolder folder;
  GrpcServerOptions options;
  options.address = "unix:" + (folder / "sma.sock");
  StartServer(options);
  EXPECT_CALL(agent_, DeleteDevice).WillRepeatedly(Return(DeleteDeviceResponse()));
  EXPECT_TRUE(Delete("x").ok());
  struct stat status;
  ASSERT_EQ(stat((folder / "sma.sock").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 022, 0u) << "others must not connect";

  EXPECT_EQ(GrpcServer::Start(agent_, admin_, options).status().code(),
            absl::StatusCode::kAlreadyExists);
  EXPECT_TRUE(Delete("x").ok());
}

TEST_F(ListenServerTest, ASocketOfAKilledServerIsReplaced) {
  TemporaryFolder folder;
  std::string path = folder / "sma.sock";
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  std::copy(path.begin(), path.end(), name.sun_path);
  base::UniqueFd left(socket(AF_UNIX, SOCK_STREAM, 0));
  ASSERT_EQ(bind(left.get(), reinterpret_cast<sockaddr*>(&name), sizeof(name)), 0);
  left.Reset();
  GrpcServerOptions options;
  options.address = "unix:" + path;
  StartServer(options);
  EXPECT_CALL(agent_, DeleteDevice).WillOnce(Return(DeleteDeviceResponse()));
  EXPECT_TRUE(Delete("x").ok());
}

TEST_F(ListenServerTest, AnExistingFileIsNotReplacedByAUnixSocket) {
  TemporaryFolder folder;
  std::ofstream(folder / "file") << "data";
  GrpcServerOptions options;
  options.address = "unix:" + (folder / "file");
  EXPECT_FALSE(GrpcServer::Start(agent_, admin_, options).ok());
  EXPECT_EQ(std::filesystem::file_size(folder / "file"), 4u);
}

}  // namespace
}  // namespace sma::service
