// Connections that do not log in, and the memory that connections keep.

#include <gmock/gmock.h>

#include <bit>

#include "target/nvmf/tcp/test_target.h"

namespace sma::target::nvmf::tcp {
namespace {

TEST(LimitsTest, SilentConnectionsMakeRoomForAHost) {
  Options options;
  options.max_connections = 16;  // 8 without login, 4 of them of one address
  TestTarget target(options);
  std::vector<TestHost> silent;
  for (int i = 0; i < 10; ++i) silent.push_back(target.Dial());
  TestHost admin = target.DialAdmin();
  TestHost io = target.DialIo();
  EXPECT_TRUE(silent[0].IsClosed());
  EXPECT_TRUE(silent[5].IsClosed());
  // More of them do not touch those that have logged in.
  for (int i = 0; i < 10; ++i) silent.push_back(target.Dial());
  EXPECT_TRUE(silent[10].IsClosed());
  nvme::Command flush;
  flush.nsid = 1;
  EXPECT_EQ(io.Execute(flush).status(), nvme::Status::kSuccess);
}

// Their Connects have come when the target accepts them all at once.
TEST(LimitsTest, HostsThatLogInAtOnceAreNotEvicted) {
  Options options;
  options.max_connections = 16;
  TestTarget target(options);
  std::vector<TestHost> hosts;
  target.InControl([&] {
    for (int i = 0; i < 12; ++i) {
      TestHost host = target.Dial();
      host.SendStruct(nvme::tcp::IcReq());
      nvme::ConnectCommand command;
      command.sq_size = 31;
      nvme::ConnectData data = TestHost::ConnectDataFor(TestTarget::kNqn);
      host.SendCommand(std::bit_cast<nvme::Command>(command), std::as_bytes(std::span(&data, 1)));
      hosts.push_back(std::move(host));
    }
  });
  for (TestHost& host : hosts) {
    auto answer = host.Receive();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->type(), nvme::tcp::PduType::kIcResp);
    host.agreement.initialized = true;
    answer = host.Receive();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->status(), nvme::Status::kSuccess);
  }
}

TEST(LimitsTest, HostsBeyondTheBoundAreRefusedAndTheOthersServed) {
  Options options;
  options.max_connections = 4;
  TestTarget target(options);
  TestHost admin = target.DialAdmin();
  TestHost first = target.DialIo(0, 1);
  TestHost second = target.DialIo(0, 2);
  TestHost third = target.DialIo(0, 3);
  target.InControl([] {});  // the last login is known there
  EXPECT_TRUE(target.Dial().IsClosed());
  third.Close();
  nvme::Command flush;
  flush.nsid = 1;
  EXPECT_EQ(first.Execute(flush).status(), nvme::Status::kSuccess);
  // The end of a connection is noticed a moment later.
  bool served = false;
  for (int attempt = 0; attempt < 1000 && !served; ++attempt) {
    TestHost host = target.Dial();
    nvme::tcp::IcReq request;
    if (::send(host.fd(), &request, sizeof request, MSG_NOSIGNAL) < 0) continue;
    served = !host.IsClosed();
  }
  EXPECT_TRUE(served);
}

}  // namespace
}  // namespace sma::target::nvmf::tcp
