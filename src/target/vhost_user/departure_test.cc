// Front ends and bdevs that go while something of theirs is under way.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/virtio_blk.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <future>
#include <memory>
#include <optional>
#include <vector>

#include "harness/vhost_user/blk_driver.h"
#include "harness/vhost_user/front_end.h"
#include "harness/vhost_user/guest_ram.h"
#include "target/bdev/test_bdev.h"
#include "target/vhost_user/test_target.h"

namespace sma::target::vhost_user {
namespace {

using harness::BlkDriver;
using harness::FrontEnd;
using harness::GuestRam;

// A guest with one vring; its memory and what is noted as under way outlive its connections.
class DepartureTest : public testing::Test {
 protected:
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
    // It waits for the vring's reactor, which had the disk to itself.
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

// Holds the only I/O reactor, so that everything sent to it is still to come.
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

TEST_F(DepartureTest, ABdevMayGoBeforeAVringHasStartedAndStopped) {
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

TEST_F(DepartureTest, ABdevMayGoBeforeAVringThatIsStoppedHasStarted) {
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

TEST_F(DepartureTest, WhatALimitHoldsIsNotWrittenAfterItsFrontEndHasGone) {
  Connect();
  ASSERT_TRUE(driver_.Start(front_end_, 0));
  // One block is let through at once; the tenth would be written after nine seconds.
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
  ASSERT_TRUE(target_.WaitForSessions("c", 0)) << "it waits for its turn";
  SetLimits({});
  EXPECT_EQ(OnDisk(19), std::byte{0});
  // They are not lost either: a front end that comes back with the same ring has them done.
  Connect();
  ASSERT_TRUE(driver_.Start(front_end_, 0, 1));
  for (size_t i = 1; i < heads.size(); ++i) {
    auto answer = driver_.Wait(heads[i]);
    ASSERT_TRUE(answer) << i;
    EXPECT_EQ(answer->status, VIRTIO_BLK_S_OK) << i;
  }
  EXPECT_EQ(OnDisk(19), std::byte{7});
}

// A session that ends while its vring is being stopped for a change.
TEST_F(DepartureTest, AStopThatWaitsForALimitDoesNotKeepTheSession) {
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
  target_.EndSessions("c");
  EXPECT_TRUE(target_.WaitForSessions("c", 0));
}

// The counter is full and the description shared with the guest is made blocking, after it was
// handed over.
class BlockingEventFd {
 public:
  BlockingEventFd() : fd_(::eventfd(0, EFD_CLOEXEC)) {}
  ~BlockingEventFd() {
    ::fcntl(fd_.get(), F_SETFL, O_NONBLOCK);
    uint64_t count = 0;  // lets a target that waits go on, so that the test ends
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
  // Another guest, on the same reactor, is served.
  void ExpectOthersAreServed() {
    GuestRam ram(16 << 20, 0x1'0000'0000, 0x7abc'0000'0000);
    FrontEnd front_end;
    ASSERT_TRUE(front_end.Connect(target_.SocketPath("c")));
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

TEST_F(BlockingFdTest, AnEventFdForCallsThatBlocksEndsItsVringOnly) {
  Connect();
  ASSERT_TRUE(driver_.Start(front_end_, 0));
  base::UniqueFd error(::eventfd(0, EFD_CLOEXEC));
  ASSERT_TRUE(front_end_.SetVringFd(Request::kSetVringErr, 0, error.get()));
  ASSERT_TRUE(front_end_.SetVringFd(Request::kSetVringCall, 0, hostile_.get()));
  // The call that announces the change comes first.
  uint64_t count = 0;
  ASSERT_TRUE(WaitUntil([&] { return ::read(hostile_.get(), &count, sizeof count) > 0; }));
  hostile_.Block();
  driver_.Submit({.type = VIRTIO_BLK_T_FLUSH});
  ExpectOthersAreServed();
  pollfd waited{.fd = error.get(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(::poll(&waited, 1, 10'000), 1);
}

TEST_F(BlockingFdTest, AnEventFdForErrorsThatBlocksDoesNoHarm) {
  Connect();
  ASSERT_TRUE(driver_.Start(front_end_, 0));
  ASSERT_TRUE(front_end_.SetVringFd(Request::kSetVringErr, 0, hostile_.get()));
  hostile_.Block();
  ASSERT_EQ(::ftruncate(ram_.fd(), 0), 0);
  driver_.Kick();
  ExpectOthersAreServed();
}

// Its counter is taken by the guest before the target reads it.
TEST_F(BlockingFdTest, AnEventFdForKicksThatBlocksDoesNoHarm) {
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
}  // namespace sma::target::vhost_user
