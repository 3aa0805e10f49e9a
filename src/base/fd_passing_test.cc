// SPDX-License-Identifier: Apache-2.0

#include "base/fd_passing.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <utility>

#include "base/event.h"

namespace sma::base {
namespace {

class FdPassingTest : public testing::Test {
 protected:
  FdPassingTest() {
    int ends[2] = {-1, -1};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
    sender_.Reset(ends[0]);
    receiver_.Reset(ends[1]);
  }

  ssize_t Send(const std::vector<int>& fds) {
    const iovec part{byte_.data(), byte_.size()};
    return SendWithFds(sender_.get(), {&part, 1}, fds);
  }
  ssize_t Receive() { return ReceiveWithFds(receiver_.get(), byte_, received_); }

  std::array<std::byte, 1> byte_{};
  UniqueFd sender_, receiver_;
  std::vector<UniqueFd> received_;
};

TEST_F(FdPassingTest, DescriptorsArriveInOrderAndCloseOnExec) {
  UniqueFd first(::eventfd(1, 0)), second(::eventfd(2, 0));
  ASSERT_EQ(Send({first.get(), second.get()}), 1);
  ASSERT_EQ(Receive(), 1);
  ASSERT_EQ(received_.size(), 2u);
  for (uint64_t expected : {1, 2}) {
    const int fd = received_[expected - 1].get();
    eventfd_t count = 0;
    ASSERT_EQ(::eventfd_read(fd, &count), 0);
    EXPECT_EQ(count, expected);
    EXPECT_NE(::fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
  }
}

TEST_F(FdPassingTest, BytesAloneBringNone) {
  ASSERT_EQ(Send({}), 1);
  EXPECT_EQ(Receive(), 1);
  EXPECT_TRUE(received_.empty());
}

TEST_F(FdPassingTest, NothingToReadAndTheEndOfTheStream) {
  EXPECT_EQ(Receive(), -1);
  EXPECT_EQ(errno, EAGAIN);
  sender_.Reset();
  EXPECT_EQ(Receive(), 0);
}

TEST_F(FdPassingTest, TooManyAreRefusedByBothSides) {
  UniqueFd fd(::eventfd(0, 0));
  EXPECT_EQ(Send(std::vector<int>(kMaxPassedFds + 1, fd.get())), -1);
  EXPECT_EQ(errno, EINVAL);

  // Sends more descriptors than this process may open. The kernel drops the rest, which must be
  // reported.
  ASSERT_EQ(Send(std::vector<int>(kMaxPassedFds, fd.get())), 1);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const int next = ::dup(fd.get());
  ASSERT_GE(next, 0);
  ::close(next);
  rlimit few = before;
  few.rlim_cur = static_cast<rlim_t>(next) + 8;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &few), 0);
  const ssize_t size = Receive();
  const int error = errno;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(size, -1);
  EXPECT_EQ(error, EMSGSIZE);
  EXPECT_LE(received_.size(), 8u);
}

TEST_F(FdPassingTest, AnEndedPeerIsAnErrorAndNoSignal) {
  receiver_.Reset();
  EXPECT_EQ(Send({}), -1);
  EXPECT_EQ(errno, EPIPE);
}

}  // namespace
}  // namespace sma::base
