// SPDX-License-Identifier: Apache-2.0

// Tests front ends that try to occupy a reactor.

#include <gtest/gtest.h>
#include <linux/virtio_blk.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <fstream>
#include <functional>
#include <future>
#include <list>
#include <numeric>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "harness/lingering_socket.h"
#include "harness/vhost_user/blk_driver.h"
#include "harness/vhost_user/front_end.h"
#include "harness/vhost_user/guest_ram.h"
#include "storage_target/bdev/testing/test_bdev.h"
#include "storage_target/vhost_user/testing/test_target.h"
#include "storage_target/virtio/shared_fields.h"

namespace sma::storage_target::vhost_user {
namespace {

using harness::BlkDriver;
using harness::FrontEnd;
using harness::GuestRam;
using harness::LingeringSocket;

template <typename T>
std::vector<std::byte> Encode(Request request, const T& payload, uint32_t flags = 0) {
  const Header header{.request = static_cast<uint32_t>(request),
                      .flags = Header::kVersion | flags,
                      .payload_bytes = sizeof payload};
  std::vector<std::byte> bytes(sizeof header + sizeof payload);
  std::memcpy(bytes.data(), &header, sizeof header);
  std::memcpy(bytes.data() + sizeof header, &payload, sizeof payload);
  return bytes;
}

class UnfairTest : public testing::Test {
 protected:
  void SetUp() override {
    target_.AddDisk("disk");
    ASSERT_EQ(target_.Create({.name = "c", .bdev_name = "disk"}), 0);
    Connect();
  }
  void Connect() {
    ASSERT_TRUE(front_end_.Connect(target_.SocketPath("c")));
    ASSERT_TRUE(front_end_.Negotiate());
  }
  // Runs `act` while the target reads nothing, so that it receives all messages together.
  template <typename Act>
  void WhileTargetIsBusy(Act act) {
    target_.Run([&](bdev::Registry&, ControllerTable&) { act(); });
  }
  // Checks that another front end is served within the usual time limits.
  void ExpectServesOthers() {
    FrontEnd other;
    ASSERT_TRUE(other.Connect(target_.SocketPath("c")));
    EXPECT_TRUE(other.Negotiate());
  }

  TestTarget target_{1};
  FrontEnd front_end_;
};

TEST_F(UnfairTest, ClosingARefusedDescriptorMayBlock) {
  LingeringSocket socket;
  const int fd = socket.fd();
  WhileTargetIsBusy([&] {
    front_end_.SendBytes(Encode(Request::kSetVringCall, uint64_t{0}), std::span(&fd, 1));
    socket.Leave();
  });
  ExpectServesOthers();
}

TEST_F(UnfairTest, ClosingTooManyDescriptorsMayBlock) {
  LingeringSocket socket;
  const std::vector<int> fds(100, socket.fd());
  WhileTargetIsBusy([&] {
    front_end_.SendBytes(Encode(Request::kSetVringCall, uint64_t{0}), fds);
    socket.Leave();
  });
  ExpectServesOthers();
}

TEST_F(UnfairTest, ClosingAnUnreadDescriptorMayBlock) {
  LingeringSocket socket;
  const int fd = socket.fd();
  WhileTargetIsBusy([&] {
    front_end_.SendBytes(Encode(Request::kGetFeatures, uint64_t{0}));  // ends the session
    front_end_.SendBytes(Encode(Request::kSetVringCall, uint64_t{0}), std::span(&fd, 1));
    socket.Leave();
  });
  ExpectServesOthers();
}

// Submits large requests to some vrings at once and observes in which order they are served.
class LargeRequestsTest : public UnfairTest {
 protected:
  static constexpr size_t kBytes = 512 << 10;

  // Starts `vrings` vrings with `requests` requests each and waits until all are complete.
  void Serve(uint16_t vrings, uint16_t requests) {
    requests_ = requests;
    GuestRam* rams[] = {&ram_};
    ASSERT_TRUE(front_end_.SetMemTable(rams));
    for (uint16_t i = 0; i < vrings; ++i) {
      drivers_.emplace_back(ram_, harness::RingOptions{.size = 128});
      ASSERT_TRUE(drivers_.back().Start(front_end_, i));
    }
    std::promise<void> submitted;
    target_.PostToReactor([&] { submitted.get_future().wait(); });
    bool fit = true;
    for (BlkDriver& driver : drivers_) {
      for (uint16_t i = 0; i < requests; ++i) {
        fit &= driver.Submit({.type = VIRTIO_BLK_T_OUT, .out = data_, .segment_bytes = kBytes})
                   .has_value();
      }
    }
    std::promise<void> complete;
    std::function<void()> look = [&] {
      if (Look() == vrings * requests) return complete.set_value();
      target_.PostToReactor(look);
    };
    target_.PostToReactor(look);
    submitted.set_value();
    ASSERT_TRUE(fit);
    ASSERT_EQ(complete.get_future().wait_for(std::chrono::seconds(30)), std::future_status::ready);
  }

  uint32_t most_in_a_round_ = 0;  // requests of all vrings
  // Observed while the same vrings were being served, that is, from the round on in which the last
  // of them had begun, and without those that were complete by then.
  uint16_t most_ahead_ = 0;  // requests by which one vring was ahead of another
  size_t served_together_ = 0;

 private:
  // Returns the number of completed requests. Called in each round of the reactor.
  uint32_t Look() {
    std::vector<uint16_t> counts;
    for (BlkDriver& driver : drivers_)
      counts.push_back(virtio::LoadAcquire(driver.split().ring().used_index()));
    const uint32_t complete = std::accumulate(counts.begin(), counts.end(), 0U);
    most_in_a_round_ = std::max(most_in_a_round_, complete - complete_);
    complete_ = complete;
    if (base_.empty() && std::ranges::find(counts, 0) == counts.end()) base_ = counts;
    std::vector<uint16_t> served;
    for (size_t i = 0; i < base_.size(); ++i) {
      if (base_[i] < requests_) served.push_back(counts[i] - base_[i]);
    }
    if (served.size() < 2 || std::ranges::find(counts, requests_) != counts.end()) return complete;
    served_together_ = std::max(served_together_, served.size());
    const auto [least, most] = std::ranges::minmax(served);
    most_ahead_ = std::max(most_ahead_, static_cast<uint16_t>(most - least));
    return complete;
  }

  const std::vector<std::byte> data_ = std::vector<std::byte>(kBytes);
  GuestRam ram_{128 << 20, 0x1'0000'0000, 0x7abc'0000'0000};
  std::list<BlkDriver> drivers_;
  uint16_t requests_ = 0;  // of each vring
  uint32_t complete_ = 0;
  std::vector<uint16_t> base_;  // the counts when all vrings had begun
};

// However much data the requests have, the reactor does other work after some of them. (The clock
// by which a turn ends may advance within a round.)
TEST_F(LargeRequestsTest, OfOneVringDoNotOccupyTheReactor) {
  ASSERT_NO_FATAL_FAILURE(Serve(1, 32));
  EXPECT_LE(most_in_a_round_, 8U);
}

TEST_F(LargeRequestsTest, OfManyVringsDoNotOccupyTheReactor) {
  ASSERT_NO_FATAL_FAILURE(Serve(64, 2));
  EXPECT_LE(most_in_a_round_, 8U);
}

TEST_F(LargeRequestsTest, OfSeveralVringsAreServedInTurns) {
  ASSERT_NO_FATAL_FAILURE(Serve(8, 30));
  ASSERT_GE(served_together_, 2U);
  EXPECT_LE(most_ahead_, 4);
}

// Memory that this process uses, in bytes.
size_t ResidentBytes() {
  size_t total = 0;
  size_t resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident * static_cast<size_t>(::getpagesize());
}

// A front end that starts all vrings, of the largest size, costs the reactors little as long as it
// does not use them: neither memory nor the time to write to it.
TEST_F(UnfairTest, UnusedVringsUseLittleMemory) {
  constexpr uint16_t kVrings = Session::kMaxQueues;
  GuestRam ram(64 << 20, 0x1'0000'0000, 0x7abc'0000'0000);
  GuestRam* rams[] = {&ram};
  ASSERT_TRUE(front_end_.SetMemTable(rams));
  std::list<BlkDriver> drivers;
  for (uint16_t i = 0; i < kVrings; ++i)
    drivers.emplace_back(ram, harness::RingOptions{.size = Vring::kMaxSize});
  const size_t before = ResidentBytes();
  uint16_t index = 0;
  for (BlkDriver& driver : drivers) ASSERT_TRUE(driver.Start(front_end_, index++));
  EXPECT_EQ(target_.RunningVrings("c"), kVrings);
  EXPECT_LT(ResidentBytes() - before, size_t{100} << 20);
  std::vector<std::byte> data(512);
  EXPECT_EQ(drivers.back().Read(0, data), VIRTIO_BLK_S_OK);
}

// While there are no descriptors left, front ends wait and the reactor sleeps.
TEST_F(UnfairTest, FrontEndsWaitForDescriptorsWithoutABusyLoop) {
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  const std::string path = target_.SocketPath("c");
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  base::UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const auto control_time = [&] {
    uint64_t time_ns = 0;
    target_.Run([&](bdev::Registry&, ControllerTable&) { time_ns = bdev::ThreadCpuNs(); });
    return time_ns;
  };
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  const rlimit none{.rlim_cur = 0, .rlim_max = limit.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  const int connected =
      ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  const uint64_t idle_ns = target_.ControlIdleNs();
  const uint64_t before_ns = control_time();
  const bool slept = WaitUntil([&] { return target_.ControlIdleNs() - idle_ns > 300'000'000; });
  const uint64_t used_ns = control_time() - before_ns;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
  ASSERT_EQ(connected, 0);
  EXPECT_TRUE(slept);
  EXPECT_LT(used_ns, 100'000'000U);
  FrontEnd waiting;
  waiting.Adopt(std::move(socket));
  EXPECT_TRUE(waiting.AskNumber(Request::kGetFeatures));
}

// However many messages are queued, other work of the reactor gets its turn between them.
TEST_F(UnfairTest, EndlessMessagesDoNotOccupyTheReactor) {
  constexpr int kMessages = 200;
  constexpr int kReplyBytes = sizeof(Header) + sizeof(uint64_t);
  std::vector<std::byte> messages;
  for (int i = 0; i < kMessages; ++i) {
    const auto message =
        Encode(Request::kSetProtocolFeatures, Bit(ProtocolFeature::kReplyAck), Header::kNeedReply);
    messages.insert(messages.end(), message.begin(), message.end());
  }
  std::atomic<bool> all{false};
  std::atomic<int> between{0};
  std::function<void()> look;
  target_.Run([&](bdev::Registry& registry, ControllerTable&) {
    front_end_.SendBytes(messages);
    look = [&, &control = registry.control()] {
      int bytes = 0;
      ::ioctl(front_end_.fd(), FIONREAD, &bytes);
      if (bytes > 0 && bytes < kMessages * kReplyBytes) ++between;
      if (bytes == kMessages * kReplyBytes) {
        all = true;
      } else {
        control.Post(look);
      }
    };
    registry.control().Post(look);
  });
  ASSERT_TRUE(WaitUntil([&] { return all.load(); }));
  EXPECT_GT(between, 0);
}

}  // namespace
}  // namespace sma::storage_target::vhost_user
