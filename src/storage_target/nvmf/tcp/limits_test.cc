// SPDX-License-Identifier: Apache-2.0

// Tests connections that do not complete Connect, and the memory that connections use.

#include <gmock/gmock.h>

#include <bit>
#include <chrono>

#include "storage_target/nvmf/tcp/testing/test_target.h"

namespace sma::storage_target::nvmf::tcp {
namespace {

TEST(LimitsTest, SilentConnectionsAreEvictedForAHost) {
  Options options;
  options.max_connections = 16;  // 8 pending, 4 of them per address
  TestTarget target(options);
  std::vector<TestHost> silent;
  for (int i = 0; i < 10; ++i) silent.push_back(target.Dial());
  TestHost admin = target.DialAdmin();
  TestHost io = target.DialIo();
  EXPECT_TRUE(silent[0].IsClosed());
  EXPECT_TRUE(silent[5].IsClosed());
  // Further connections do not evict those that have completed Connect.
  for (int i = 0; i < 10; ++i) silent.push_back(target.Dial());
  EXPECT_TRUE(silent[10].IsClosed());
  nvme::Command flush;
  flush.nsid = 1;
  EXPECT_EQ(io.Execute(flush).status(), nvme::Status::kSuccess);
}

// The limits are checked once a second.
TEST(LimitsTest, ConnectionsThatDoNotCompleteConnectAreClosed) {
  Options options;
  options.connect_timeout_ns = 100'000'000;
  TestTarget target(options);
  TestHost silent = target.Dial();
  TestHost initialized = target.Dial();
  initialized.Initialize();
  TestHost unfinished = target.Dial();
  const nvme::tcp::IcReq request;
  unfinished.Send(&request, sizeof request / 2);
  TestHost admin = target.DialAdmin();
  TestHost io = target.DialIo();
  EXPECT_TRUE(silent.IsClosed());
  EXPECT_TRUE(initialized.IsClosed());
  EXPECT_TRUE(unfinished.IsClosed());
  nvme::Command flush;
  flush.nsid = 1;
  EXPECT_EQ(io.Execute(flush).status(), nvme::Status::kSuccess);
}

class PromptHostsTest : public testing::TestWithParam<const char*> {};

// The hosts' Connect commands have already arrived when the target accepts the connections.
TEST_P(PromptHostsTest, AreNotEvicted) {
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
      nvme::ConnectData data = TestHost::ConnectDataFor(GetParam());
      host.SendCommand(std::bit_cast<nvme::Command>(command), std::as_bytes(std::span(&data, 1)));
      hosts.push_back(std::move(host));
    }
  });
  for (TestHost& host : hosts) {
    auto answer = host.Receive();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->type(), nvme::tcp::PduType::kIcResp);
    host.negotiated.initialized = true;
    answer = host.Receive();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->status(), nvme::Status::kSuccess);
  }
}

INSTANTIATE_TEST_SUITE_P(All, PromptHostsTest,
                         testing::Values(TestTarget::kNqn, nvme::kDiscoveryNqn));

TEST(LimitsTest, HostsBeyondTheLimitAreRefusedAndOthersServed) {
  Options options;
  options.max_connections = 4;
  TestTarget target(options);
  TestHost admin = target.DialAdmin();
  TestHost first = target.DialIo(0, 1);
  TestHost second = target.DialIo(0, 2);
  TestHost third = target.DialIo(0, 3);
  target.InControl([] {});  // the control reactor has processed the last Connect
  EXPECT_TRUE(target.Dial().IsClosed());
  third.Close();
  nvme::Command flush;
  flush.nsid = 1;
  EXPECT_EQ(first.Execute(flush).status(), nvme::Status::kSuccess);
  // The end of a connection is detected asynchronously.
  bool served = false;
  for (int attempt = 0; attempt < 1000 && !served; ++attempt) {
    TestHost host = target.Dial();
    nvme::tcp::IcReq request;
    if (::send(host.fd(), &request, sizeof request, MSG_NOSIGNAL) < 0) continue;
    served = !host.IsClosed();
  }
  EXPECT_TRUE(served);
}

nvme::Command LargeWrite(uint16_t cid) {
  nvme::Command command;
  command.opcode = static_cast<uint8_t>(nvme::IoOpcode::kWrite);
  command.cid = cid;
  command.nsid = 1;
  command.cdw12 = 31;
  command.sgl.length = 131072;
  return command;
}

TEST(LimitsTest, AHostThatTricklesDataDoesNotKeepMemoryThatOthersWaitFor) {
  Options options;
  options.pressed_timeout_ns = 100'000'000;
  TestTarget target(options);
  TestHost slow_admin = target.DialAdmin();
  TestHost slow = target.DialIo();
  auto r2t = slow.Execute(LargeWrite(1)).As<nvme::tcp::R2t>();
  slow.SendH2cData(r2t, 0, std::vector<std::byte>(4), false);

  nvme::ConnectData data = TestHost::ConnectDataFor(TestTarget::kNqn);
  nvme::SetPadded(data.host_nqn, "nqn.2016-06.io.spdk:other", '\0');
  TestHost admin = target.Dial();
  admin.Initialize();
  data.controller_id = nvme::ConnectControllerId(admin.Connect(data).dw0);
  EXPECT_EQ(nvme::StatusOf(admin.Enable().status), nvme::Status::kSuccess);
  TestHost io = target.Dial();
  io.Initialize();
  EXPECT_EQ(nvme::StatusOf(io.Connect(data, 1, 127).status), nvme::Status::kSuccess);
  io.negotiated.max_in_capsule = 4096;
  for (uint16_t cid = 0; cid < 127; ++cid) io.SendCommand(LargeWrite(cid));

  // Four bytes each 10 ms, in a PDU of its own.
  bool closed = false;
  uint32_t sent = 4;
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(8);
  while (!closed && std::chrono::steady_clock::now() < until) {
    pollfd ready{slow.fd(), POLLIN, 0};
    closed = ::poll(&ready, 1, 10) == 1;
    if (!closed) slow.SendH2cData(r2t, sent, std::vector<std::byte>(4), false);
    sent += 4;
  }
  EXPECT_TRUE(closed);
  EXPECT_EQ(io.Receive()->type(), nvme::tcp::PduType::kR2t);
}

// The blocks are sent directly from the disk's memory.
TEST(LimitsTest, ARemovalDoesNotWaitForAHostThatDoesNotReceiveItsResponses) {
  Options options;
  options.removal_timeout_ns = 100'000'000;
  TestTarget target(options);
  TestHost admin = target.DialAdmin();
  TestHost io = target.DialIo();
  nvme::Command read;
  read.opcode = static_cast<uint8_t>(nvme::IoOpcode::kRead);
  read.nsid = 1;
  read.cdw12 = 31;
  read.sgl.length = 131072;
  for (uint16_t cid = 0; cid < 127; ++cid) {
    read.cid = cid;
    io.SendCommand(read);
  }
  ASSERT_TRUE(io.Receive());  // the first of them, so that the others are under way
  const auto start = std::chrono::steady_clock::now();
  target.Wait([&](auto done) { EXPECT_EQ(target.subsystem().namespaces().Remove(1, done), 0); });
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(8));
}

}  // namespace
}  // namespace sma::storage_target::nvmf::tcp
