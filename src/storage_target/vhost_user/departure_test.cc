// SPDX-License-Identifier: Apache-2.0

// Tests front ends that disconnect and bdevs that are removed while requests are outstanding.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/virtio_blk.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <chrono>
#include <future>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "harness/vhost_user/blk_driver.h"
#include "harness/vhost_user/front_end.h"
#include "harness/vhost_user/guest_ram.h"
#include "storage_target/bdev/testing/test_bdev.h"
#include "storage_target/vhost_user/testing/test_target.h"

namespace sma::storage_target::vhost_user {
namespace {

using harness::BlkDriver;
using harness::FrontEnd;
using harness::GuestRam;

// A guest with one vring, whose memory and inflight buffer outlive its connections.
class DepartureTest : public testing::Test {
 protected:
  // Leaves behind a vring that is being stopped and that cannot stop while one of its writes is
  // throttled.
  void StopBehindThrottledIo() {
    Connect();
    ASSERT_TRUE(driver_.Start(front_end_, 0));
    SetLimits({.w_bytes_per_sec = 1});
    const std::vector<std::byte> data(4096, std::byte{7});
    for (uint64_t sector = 0; sector < 16; sector += 8) {
      ASSERT_TRUE(driver_.Submit({.type = VIRTIO_BLK_T_OUT, .sector = sector, .out = data}));
    }
    ASSERT_TRUE(WaitUntil([&] { return target_.OutstandingRequests("c") == 1; }));
    const VringState state{.index = 0, .number = 0};
    ASSERT_TRUE(front_end_.Send(Request::kGetVringBase, std::as_bytes(std::span(&state, 1))));
    ASSERT_TRUE(WaitUntil([&] { return target_.RunningVrings("c") == 0; }));
  }
  void SetUp() override {
    target_.AddDisk("disk");
    ASSERT_EQ(target_.Create({.name = "c", .bdev_name = "disk"}), 0);
  }
  void Connect() {
    ASSERT_TRUE(front_end_.Connect(target_.SocketPath("c")));
    ASSERT_TRUE(front_end_.Negotiate());
    GuestRam* rams[] = {&ram_};
    ASSERT_TRUE(front_end_.SetMemTable(rams));
    if (!inflight_) inflight_ = front_end_.GetInflight(1, 64);
    ASSERT_TRUE(inflight_);
    ASSERT_TRUE(front_end_.SetInflight(*inflight_));
  }
  void SetLimits(const bdev::Limits& limits) {
    target_.Run([&](bdev::Registry& registry, ControllerTable&) {
      registry.SetLimits(*registry.Find("disk"), limits);
    });
  }
  std::byte OnDisk(uint64_t sector) {
    struct Reader {
      bdev::TestEvents events;
      std::unique_ptr<bdev::Descriptor> descriptor;
      std::unique_ptr<bdev::Channel> channel;
      std::optional<bdev::TestIo> read;
    } reader;
    target_.Run([&](bdev::Registry& registry, ControllerTable&) {
      reader.descriptor =
          std::move(*registry.Open("disk", bdev::Registry::Access::kRead, &reader.events));
      reader.channel = reader.descriptor->OpenChannel(registry.control());
      reader.read.emplace(bdev::IoType::kRead, sector, 1, 512);
      reader.channel->Submit(*reader.read);
    });
    // Completes after the work already queued in the vring's reactor.
    EXPECT_TRUE(WaitUntil([&] {
      bool is_done = false;
      target_.Run(
          [&](bdev::Registry&, ControllerTable&) { is_done = reader.read->result.has_value(); });
      return is_done;
    }));
    target_.Run([&](bdev::Registry&, ControllerTable&) {
      reader.channel.reset();
      reader.descriptor.reset();
    });
    return reader.read->data[0];
  }
  bool SessionHasEnded() {
    return WaitUntil([this] {
      bool ended = false;
      target_.Run([&ended](bdev::Registry&, ControllerTable& table) {
        ended = table.Find("c")->sessions().front()->ended();
      });
      return ended;
    });
  }

  TestTarget target_{1};
  GuestRam ram_{16 << 20, 0x1'0000'0000, 0x7abc'0000'0000};
  FrontEnd front_end_;
  BlkDriver driver_{ram_, {.size = 64}};
  std::optional<FrontEnd::InflightBuffer> inflight_;
};

// Blocks the only I/O reactor, so that all messages sent to it stay queued.
class HeldReactor {
 public:
  explicit HeldReactor(TestTarget& target) {
    target.PostToReactor([this] {
      holds_.set_value();
      released_.get_future().wait();
      ended_.set_value();
    });
    holds_.get_future().wait();
  }
  ~HeldReactor() { Release(); }
  void Release() {
    if (std::exchange(is_released_, true)) return;
    released_.set_value();
    ended_.get_future().wait();
  }

 private:
  std::promise<void> holds_, released_, ended_;
  bool is_released_ = false;
};

TEST_F(DepartureTest, ABdevMayBeRemovedBeforeAVringHasStartedAndStopped) {
  Connect();
  HeldReactor held(target_);
  ASSERT_TRUE(driver_.Start(front_end_, 0));
  front_end_.Disconnect();
  ASSERT_TRUE(SessionHasEnded());
  std::promise<void> gone;
  target_.Run([&](bdev::Registry& registry, ControllerTable&) {
    registry.Unregister(*registry.Find("disk"), [&] { gone.set_value(); });
  });
  held.Release();
  gone.get_future().wait();
  EXPECT_TRUE(target_.WaitForSessions("c", 0));
}

TEST_F(DepartureTest, ABdevMayBeRemovedBeforeAStoppedVringHasStarted) {
  Connect();
  std::promise<void> gone;
  {
    HeldReactor held(target_);
    ASSERT_TRUE(driver_.Start(front_end_, 0));
    const VringState state{.index = 0, .number = 0};
    ASSERT_TRUE(front_end_.Send(Request::kGetVringBase, std::as_bytes(std::span(&state, 1))));
    ASSERT_TRUE(WaitUntil([&] { return target_.RunningVrings("c") == 0; }));
    target_.Run([&](bdev::Registry& registry, ControllerTable&) {
      registry.Unregister(*registry.Find("disk"), [&] { gone.set_value(); });
    });
  }
  EXPECT_TRUE(front_end_.Receive());
  gone.get_future().wait();
}

TEST_F(DepartureTest, ThrottledWritesAreNotExecutedAfterTheirFrontEndDisconnects) {
  Connect();
  ASSERT_TRUE(driver_.Start(front_end_, 0));
  // One block is written immediately; the tenth would be written after nine seconds.
  SetLimits({.w_bytes_per_sec = 512});
  const std::vector<std::byte> data(512, std::byte{7});
  std::vector<uint16_t> heads;
  for (uint64_t sector = 0; sector < 20; ++sector) {
    auto head = driver_.Submit({.type = VIRTIO_BLK_T_OUT, .sector = sector, .out = data});
    ASSERT_TRUE(head);
    heads.push_back(*head);
  }
  ASSERT_TRUE(driver_.Wait(heads[0]));
  front_end_.Disconnect();
  ASSERT_TRUE(target_.WaitForSessions("c", 0)) << "the session waits for throttled I/O";
  SetLimits({});
  EXPECT_EQ(OnDisk(19), std::byte{0});
  // The requests are not lost either: they are executed for a front end that reconnects with the
  // same ring.
  Connect();
  ASSERT_TRUE(driver_.Start(front_end_, 0, 1));
  for (size_t i = 1; i < heads.size(); ++i) {
    auto answer = driver_.Wait(heads[i]);
    ASSERT_TRUE(answer) << i;
    EXPECT_EQ(answer->status, VIRTIO_BLK_S_OK) << i;
  }
  EXPECT_EQ(OnDisk(19), std::byte{7});
}

// The reactor is stopped until the front end has left; the end of the limit is its next task.
TEST_F(DepartureTest, ThrottledWritesAreNotExecutedAfterAStop) {
  Connect();
  ASSERT_TRUE(driver_.Start(front_end_, 0));
  SetLimits({.w_bytes_per_sec = 1});
  const std::vector<std::byte> data(512, std::byte{7});
  auto first_head = driver_.Submit({.type = VIRTIO_BLK_T_OUT, .sector = 0, .out = data});
  ASSERT_TRUE(first_head && driver_.Wait(*first_head));
  ASSERT_TRUE(driver_.Submit({.type = VIRTIO_BLK_T_OUT, .sector = 1, .out = data}));
  ASSERT_TRUE(WaitUntil([&] { return target_.OutstandingRequests("c") == 1; }));
  HeldReactor first(target_);
  std::promise<void> is_held, released;
  target_.PostToReactor([&] {
    is_held.set_value();
    released.get_future().wait();
  });
  target_.Run([](bdev::Registry& registry, ControllerTable&) {
    registry.SetLimits(*registry.Find("disk"), {});
  });
  first.Release();
  is_held.get_future().wait();
  front_end_.Disconnect();
  // The measured time.
  std::this_thread::sleep_for(2 * Reactor::kDelay);
  released.set_value();
  ASSERT_TRUE(target_.WaitForSessions("c", 0));
  EXPECT_EQ(OnDisk(1), std::byte{0});
}

// Tests a session that ends while its vring is being stopped for a change of its configuration.
TEST_F(DepartureTest, AStopThatWaitsForThrottledIoDoesNotKeepTheSession) {
  ASSERT_NO_FATAL_FAILURE(StopBehindThrottledIo());
  target_.EndSessions("c");
  EXPECT_TRUE(target_.WaitForSessions("c", 0));
}

// Tests a front end that disconnects after sending many messages: its I/O must not end after that
// of the next front end, which is accepted later.
TEST_F(DepartureTest, AFrontEndThatGoesBehindManyMessagesIsNoticedAtOnce) {
  Connect();
  ASSERT_TRUE(driver_.Start(front_end_, 0));
  HeldReactor held(target_);
  FrontEnd next;
  target_.Run([&](bdev::Registry&, ControllerTable&) {
    constexpr int kMessages = 150;  // more than are read in a round, and what the socket takes
    const uint64_t features = 0;
    for (int i = 0; i < kMessages; ++i) {
      ASSERT_TRUE(
          front_end_.Send(Request::kSetProtocolFeatures, std::as_bytes(std::span(&features, 1))));
    }
    front_end_.Disconnect();
    ASSERT_TRUE(next.Connect(target_.SocketPath("c")));
  });
  ASSERT_TRUE(SessionHasEnded());
  size_t sessions = 0;
  target_.Run([&](bdev::Registry&, ControllerTable& table) {
    sessions = table.Find("c")->sessions().size();
  });
  EXPECT_EQ(sessions, 1U);
  held.Release();
  EXPECT_TRUE(next.Negotiate());
}

TEST_F(DepartureTest, AFrontEndThatGoesWhileAStopWaitsIsNoticed) {
  ASSERT_NO_FATAL_FAILURE(StopBehindThrottledIo());
  front_end_.Disconnect();
  EXPECT_TRUE(target_.WaitForSessions("c", 0));
  target_.EndSessions("c");  // lets this test end
  SetLimits({});
  EXPECT_EQ(OnDisk(8), std::byte{0});
}

// An eventfd with a full counter whose file description, shared with the guest, is made blocking
// after it was passed to the target.
class BlockingEventFd {
 public:
  BlockingEventFd() : fd_(::eventfd(0, EFD_CLOEXEC)) {}
  ~BlockingEventFd() {
    ::fcntl(fd_.get(), F_SETFL, O_NONBLOCK);
    uint64_t count = 0;  // unblocks a target that waits, so that the test ends
    [[maybe_unused]] ssize_t size = ::read(fd_.get(), &count, sizeof count);
  }
  int get() const { return fd_.get(); }
  void Block() {
    const uint64_t most = UINT64_MAX - 1;
    ASSERT_EQ(::write(fd_.get(), &most, sizeof most), static_cast<ssize_t>(sizeof most));
    ASSERT_EQ(::fcntl(fd_.get(), F_SETFL, 0), 0);
  }

 private:
  base::UniqueFd fd_;
};

class BlockingFdTest : public DepartureTest {
 protected:
  void SetUp() override {
    DepartureTest::SetUp();
    target_.AddDisk("other");
    ASSERT_EQ(target_.Create({.name = "other", .bdev_name = "other"}), 0);
  }
  // Checks that the guest of another controller on the same reactor is still served.
  void ExpectOthersAreServed() { ExpectServed("other"); }
  void ExpectServed(const std::string& controller) {
    GuestRam ram(16 << 20, 0x1'0000'0000, 0x7abc'0000'0000);
    FrontEnd front_end;
    ASSERT_TRUE(front_end.Connect(target_.SocketPath(controller)));
    ASSERT_TRUE(front_end.Negotiate());
    GuestRam* rams[] = {&ram};
    ASSERT_TRUE(front_end.SetMemTable(rams));
    BlkDriver driver(ram, {.size = 16});
    ASSERT_TRUE(driver.Start(front_end, 0));
    std::vector<std::byte> data(512);
    EXPECT_EQ(driver.Read(0, data), VIRTIO_BLK_S_OK);
  }
  BlockingEventFd hostile_;
};

TEST_F(BlockingFdTest, ABlockingCallFdEndsItsSession) {
  Connect();
  ASSERT_TRUE(driver_.Start(front_end_, 0));
  ASSERT_TRUE(front_end_.SetVringFd(Request::kSetVringCall, 0, hostile_.get()));
  // The notification that announces the change is received first.
  uint64_t count = 0;
  ASSERT_TRUE(WaitUntil([&] { return ::read(hostile_.get(), &count, sizeof count) > 0; }));
  hostile_.Block();
  driver_.Submit({.type = VIRTIO_BLK_T_FLUSH});
  ExpectOthersAreServed();
  EXPECT_TRUE(front_end_.WaitClosed());
  ExpectServed("c");
}

// Each of these descriptors would hold up the reactor for some tens of milliseconds.
TEST_F(BlockingFdTest, ManyBlockingCallFdsHoldUpTheReactorOnce) {
  Connect();
  ASSERT_TRUE(driver_.Start(front_end_, 0));
  std::promise<void> resume;
  target_.PostToReactor([held = resume.get_future().share()] { held.wait(); });
  const uint64_t index = 0;
  const int fd = hostile_.get();
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(
        front_end_.Send(Request::kSetVringCall, std::as_bytes(std::span(&index, 1)), {&fd, 1}));
  }
  // This reply is sent after all earlier messages were handled.
  ASSERT_TRUE(front_end_.AskNumber(Request::kGetFeatures));
  hostile_.Block();
  const auto start = std::chrono::steady_clock::now();
  resume.set_value();
  target_.RunInReactor([] {});
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(1));
  EXPECT_TRUE(front_end_.WaitClosed());
}

TEST_F(BlockingFdTest, ABlockingErrorFdDoesNoHarm) {
  Connect();
  ASSERT_TRUE(driver_.Start(front_end_, 0));
  ASSERT_TRUE(front_end_.SetVringFd(Request::kSetVringErr, 0, hostile_.get()));
  hostile_.Block();
  ASSERT_EQ(::ftruncate(ram_.fd(), 0), 0);
  driver_.Kick();
  ExpectOthersAreServed();
}

// The guest resets the counter of the eventfd before the target reads it.
TEST_F(BlockingFdTest, ABlockingKickFdDoesNoHarm) {
  Connect();
  ASSERT_TRUE(driver_.Start(front_end_, 0));
  ASSERT_EQ(::fcntl(driver_.kick_fd(), F_SETFL, O_NONBLOCK), 0);
  std::thread taker([&] {
    uint64_t count = 0;
    for (int i = 0; i < 20'000; ++i) {
      driver_.Kick();
      ::fcntl(driver_.kick_fd(), F_SETFL, O_NONBLOCK);
      [[maybe_unused]] ssize_t size = ::read(driver_.kick_fd(), &count, sizeof count);
      ::fcntl(driver_.kick_fd(), F_SETFL, 0);
    }
  });
  taker.join();
  ExpectOthersAreServed();
}

TEST(ReadOnlyBdevTest, IsOfferedReadOnly) {
  bdev::TestModule module;
  TestTarget target;
  module.native_types.push_back(bdev::IoType::kUnmap);
  target.AddBdev(std::make_unique<bdev::TestBdev>(
      bdev::Bdev::Info{.name = "ro", .block_size = 512, .block_count = 1 << 10, .read_only = true},
      module));
  ASSERT_EQ(target.Create({.name = "c", .bdev_name = "ro"}), 0);
  FrontEnd front_end;
  ASSERT_TRUE(front_end.Connect(target.SocketPath("c")));
  ASSERT_TRUE(front_end.Negotiate());
  EXPECT_TRUE(front_end.Has(VIRTIO_BLK_F_RO));
  EXPECT_FALSE(front_end.Has(VIRTIO_BLK_F_DISCARD));
  EXPECT_FALSE(front_end.Has(VIRTIO_BLK_F_WRITE_ZEROES));
  front_end.Disconnect();
  ASSERT_TRUE(target.WaitForSessions("c", 0));
}

}  // namespace
}  // namespace sma::storage_target::vhost_user
