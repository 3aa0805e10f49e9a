// SPDX-License-Identifier: Apache-2.0

// Tests what happens to a TCP connection when its queue pair is closed with commands outstanding.

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <memory>
#include <string>
#include <vector>

#include "storage_target/bdev_modules/nvme/initiator/queue_pair.h"
#include "storage_target/bdev_modules/nvme/initiator/testing/fake_remote.h"

namespace sma::storage_target::initiator {
namespace {

constexpr uint32_t kWriteBytes = 4096;

struct Write : Request {
  Write() {
    command.opcode = static_cast<uint8_t>(nvme::IoOpcode::kWrite);
    command.nsid = 1;
    iov = {data.data(), data.size()};
    iovs = &iov;
    iov_count = 1;
    data_bytes = kWriteBytes;
    done = [](Request& self, const nvme::Completion& completion) {
      auto& write = static_cast<Write&>(self);
      ++write.times_done;
      write.lost = ConnectionLost(completion);
    };
  }

  std::string data = std::string(kWriteBytes, 'o');
  iovec iov{};
  int times_done = 0;
  bool lost = false;
};

// Data that a lost connection has left in the kernel's send buffer must not arrive after data that
// are sent on another connection.
TEST(QueuePairLossTest, UnsentDataAreDiscardedWithTheConnection) {
  base::UniqueFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_storage name{};
  socklen_t size = Address::Parse("127.0.0.1", "0")->ToSockaddr(name);
  ASSERT_EQ(bind(listener.get(), reinterpret_cast<sockaddr*>(&name), size), 0);
  ASSERT_EQ(listen(listener.get(), 1), 0);
  sockaddr_in bound{};
  size = sizeof bound;
  getsockname(listener.get(), reinterpret_cast<sockaddr*>(&bound), &size);

  QueuePair::Options options{
      .association = {.address =
                          *Address::Parse("127.0.0.1", std::to_string(ntohs(bound.sin_port))),
                      .source = {},
                      .subnqn = "nqn.2016-06.io.spdk:remote0",
                      .hostnqn = "nqn.2016-06.io.spdk:host0",
                      .host_id = {}},
      .queue_id = 1,
      .entries = 1024,
      .in_capsule_bytes = kWriteBytes,
      .ack_timeout_ms = 1234};
  QueuePair queue(options);
  queue.Start();
  unsigned ack_timeout_ms = 0;
  size = sizeof ack_timeout_ms;
  getsockopt(queue.fd(), IPPROTO_TCP, TCP_USER_TIMEOUT, &ack_timeout_ms, &size);
  EXPECT_EQ(ack_timeout_ms, 1234u);

  FakeRemote remote(
      base::UniqueFd(accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)));
  remote.set_pump([&] { queue.Poll(); });
  remote.Accept();
  for (int i = 0; i < 20000 && !queue.ready(); ++i) queue.Poll();
  ASSERT_TRUE(queue.ready());
  // The remote stops reading, so that the buffers of both kernels fill up.
  std::vector<std::unique_ptr<Write>> writes;
  while (!queue.wants_write() && writes.size() < 1000) {
    writes.push_back(std::make_unique<Write>());
    ASSERT_TRUE(queue.Submit(*writes.back()));
    queue.Flush();
  }
  queue.Close("lost");
  for (const auto& write : writes) {
    EXPECT_EQ(write->times_done, 1);
    EXPECT_TRUE(write->lost);
  }
  std::vector<char> buffer(1 << 20);
  ssize_t got = 1;
  for (int i = 0; i < 20000 && (got > 0 || errno == EAGAIN); ++i) {
    got = recv(remote.fd(), buffer.data(), buffer.size(), 0);
    if (got == 0) break;
  }
  EXPECT_EQ(got, -1);
  EXPECT_EQ(errno, ECONNRESET);
}

}  // namespace
}  // namespace sma::storage_target::initiator
