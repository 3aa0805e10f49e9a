// SPDX-License-Identifier: Apache-2.0

#include "storage_target/virtio/received_fd.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/fd_passing.h"
#include "base/testing/lowered_descriptor_limit.h"

namespace sma::storage_target::virtio {
namespace {

class ReceiveWithFdsTest : public testing::Test {
 protected:
  // Opens descriptors until the next one has at least this number.
  static constexpr int kNext = 120;

  void SetUp() override {
    std::array<int, 2> ends;
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
    guest_ = base::UniqueFd(ends[0]);
    target_ = base::UniqueFd(ends[1]);
    do {
      others_.emplace_back(::open("/dev/null", O_RDONLY | O_CLOEXEC));
      ASSERT_TRUE(others_.back());
    } while (others_.back().get() + 1 < kNext);
  }
  ssize_t SendAndReceive() {
    char byte = 0;
    const iovec part{&byte, 1};
    const std::array<int, 2> sent{target_.get(), target_.get()};
    EXPECT_EQ(base::SendWithFds(guest_.get(), {&part, 1}, sent), 1);
    return ReceiveWithFds(target_.get(), std::as_writable_bytes(std::span(&byte, 1)), fds_);
  }
  int next() const { return others_.back().get() + 1; }

  base::UniqueFd guest_, target_;
  std::vector<base::UniqueFd> others_;
  std::vector<ReceivedFd> fds_;
};

TEST_F(ReceiveWithFdsTest, AGuestCannotSendDescriptorsIntoTheReserve) {
  // A quarter is reserved.
  const base::LoweredDescriptorLimit limit(static_cast<rlim_t>(next()) * 5 / 4);
  EXPECT_EQ(SendAndReceive(), -1);
  EXPECT_EQ(errno, EMFILE);
}

TEST_F(ReceiveWithFdsTest, ReceivesOtherDescriptors) {
  const base::LoweredDescriptorLimit limit(static_cast<rlim_t>(next()) * 3 / 2);
  EXPECT_EQ(SendAndReceive(), 1);
  EXPECT_EQ(fds_.size(), 2U);
}

// Of 400 descriptors, 100 are reserved.
TEST(DescriptorShareTest, ADeviceLeavesDescriptorsForOthers) {
  const base::LoweredDescriptorLimit limit(400);
  EXPECT_TRUE(MayKeepDescriptor(100, 100));
  EXPECT_FALSE(MayKeepDescriptor(100, 101));
  EXPECT_TRUE(MayKeepDescriptor(299, 15));
  EXPECT_FALSE(MayKeepDescriptor(299, 16));
  EXPECT_FALSE(MayKeepDescriptor(350, 16));
}

}  // namespace
}  // namespace sma::storage_target::virtio
