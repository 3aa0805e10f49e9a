// SPDX-License-Identifier: Apache-2.0

// Tests that requests in flight when a target ends are executed by the next target, each of them
// once, in whatever order requests were completed.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/virtio_blk.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>

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

// A target with a bdev whose requests complete when the test requests it.
class SlowTarget {
 public:
  explicit SlowTarget(bool packed = false) : target_(1) {
    module_.complete_at_once = false;
    target_.AddBdev(std::make_unique<bdev::TestBdev>(
        bdev::Bdev::Info{.name = "slow", .block_size = 512, .block_count = 1 << 20}, module_));
    EXPECT_EQ(target_.Create({.name = "c", .bdev_name = "slow", .packed_ring = packed}), 0);
  }
  ~SlowTarget() { AnswerAll(); }

  bool WaitForPending(size_t count) {
    return WaitUntil([&] { return Lbas().size() == count; });
  }
  // Returns the starting LBA of each request that the bdev has received but not completed, in the
  // order of their arrival.
  std::vector<uint64_t> Lbas() {
    std::vector<uint64_t> lbas;
    target_.RunInReactor([&] {
      for (const bdev::Io* io : module_.pending) lbas.push_back(io->lba);
    });
    return lbas;
  }
  // Completes the request for one block.
  void Answer(uint64_t lba) {
    target_.RunInReactor([&] {
      auto found = std::ranges::find(module_.pending, lba, &bdev::Io::lba);
      ASSERT_NE(found, module_.pending.end());
      std::vector<bdev::Io*> rest;
      for (bdev::Io* io : module_.pending) {
        if (io != *found) rest.push_back(io);
      }
      module_.pending = {*found};
      auto* channel = static_cast<bdev::TestChannel*>((*found)->channel);
      channel->CompletePending(bdev::IoStatus::kOk);
      module_.pending = rest;
    });
  }
  void AnswerAll() {
    for (uint64_t lba : Lbas()) Answer(lba);
  }
  TestTarget& target() { return target_; }
  /// Waits until the session of controller "c" accepts no more requests.
  bool WaitForEnd() {
    return WaitUntil([this] {
      bool ended = false;
      target_.Run([&ended](bdev::Registry&, ControllerTable& table) {
        const auto& sessions = table.Find("c")->sessions();
        ended = sessions.empty() || sessions.front()->ended();
      });
      return ended;
    });
  }

 private:
  bdev::TestModule module_;
  TestTarget target_;
};

// Runs with split virtqueues, with packed virtqueues, and with chains on a packed ring.
class ResumeTest : public testing::TestWithParam<harness::RingOptions> {
 protected:
  bool packed() const { return GetParam().packed; }
  // Returns the vring base after `count` requests of three descriptors were taken and completed.
  uint32_t BaseAfter(uint16_t count) const {
    if (!packed()) return count;
    virtio::PackedPosition position;
    for (uint16_t i = 0; i < count; ++i) {
      position = position.Plus(GetParam().indirect ? 1 : 3, GetParam().size);
    }
    return uint32_t{position.bits()} | uint32_t{position.bits()} << 16;
  }
  void Connect(SlowTarget& target, uint32_t base) {
    ASSERT_TRUE(front_end_.Connect(target.target().SocketPath("c")));
    ASSERT_TRUE(front_end_.Negotiate());
    GuestRam* rams[] = {&ram_};
    ASSERT_TRUE(front_end_.SetMemTable(rams));
    if (!inflight_) {
      inflight_ = front_end_.GetInflight(2, 64);
      ASSERT_TRUE(inflight_);
    }
    ASSERT_TRUE(front_end_.SetInflight(*inflight_));
    ASSERT_TRUE(driver_.Start(front_end_, 1, base));
  }

  uint16_t Submit(uint64_t lba) {
    auto head = driver_.Submit({.type = VIRTIO_BLK_T_OUT, .sector = lba, .out = data_});
    EXPECT_TRUE(head);
    return *head;
  }

  std::vector<std::byte> data_{512};
  GuestRam ram_{16 << 20, 0x1'0000'0000, 0x7abc'0000'0000};
  FrontEnd front_end_;
  BlkDriver driver_{ram_, GetParam()};
  std::optional<FrontEnd::InflightBuffer> inflight_;
};

INSTANTIATE_TEST_SUITE_P(Rings, ResumeTest,
                         testing::Values(harness::RingOptions{.size = 64, .indirect = true},
                                         harness::RingOptions{
                                             .size = 64, .indirect = true, .packed = true},
                                         harness::RingOptions{.size = 64, .packed = true}),
                         [](const testing::TestParamInfo<harness::RingOptions>& ring) {
                           if (!ring.param.packed) return "Split";
                           return ring.param.indirect ? "Packed" : "PackedChains";
                         });

TEST_P(ResumeTest, ASuccessorExecutesOutstandingRequests) {
  // The first target is prevented from completing its outstanding requests.
  auto first = std::make_unique<SlowTarget>(packed());
  SlowTarget second(packed());
  Connect(*first, BaseAfter(0));
  std::vector<uint16_t> heads;
  for (uint64_t lba = 0; lba < 20; ++lba) heads.push_back(Submit(lba));
  ASSERT_TRUE(first->WaitForPending(20));
  for (uint64_t lba : {3, 0, 17, 4, 11}) {
    first->Answer(lba);
    EXPECT_EQ(driver_.Wait(heads[lba])->status, VIRTIO_BLK_S_OK);
  }
  front_end_.Disconnect();
  ASSERT_TRUE(first->WaitForEnd()) << "it could take requests of its successor";
  // A driver continues to submit requests while there is no target.
  for (uint64_t lba = 20; lba < 25; ++lba) heads.push_back(Submit(lba));

  // QEMU passes the used index as the base, or, for a packed ring, the last base that it knew.
  Connect(second, packed() ? BaseAfter(0) : 5);
  ASSERT_TRUE(second.WaitForPending(20));
  EXPECT_THAT(second.Lbas(), testing::ElementsAre(1, 2, 5, 6, 7, 8, 9, 10, 12, 13, 14, 15, 16, 18,
                                                  19, 20, 21, 22, 23, 24));
  second.AnswerAll();
  for (uint64_t lba = 0; lba < 25; ++lba) {
    if (std::set<uint64_t>{3, 0, 17, 4, 11}.contains(lba)) continue;
    auto answer = driver_.Wait(heads[lba]);
    ASSERT_TRUE(answer) << lba;
    EXPECT_EQ(answer->status, VIRTIO_BLK_S_OK);
  }
  EXPECT_FALSE(driver_.ring().PopUsed()) << "one more completion";
  // Once all requests are completed, a third target starts without requests in flight.
  EXPECT_EQ(front_end_.StopVring(1), BaseAfter(25));
  front_end_.Disconnect();
  SlowTarget third(packed());
  Connect(third, BaseAfter(25));
  const uint16_t head = Submit(99);
  ASSERT_TRUE(third.WaitForPending(1));
  EXPECT_THAT(third.Lbas(), testing::ElementsAre(99));
  third.AnswerAll();
  EXPECT_TRUE(driver_.Wait(head));
}

TEST_P(ResumeTest, AReconnectingFrontEndWaitsForItsPreviousSession) {
  SlowTarget target(packed());
  Connect(target, BaseAfter(0));
  const uint16_t head = Submit(7);
  ASSERT_TRUE(target.WaitForPending(1));
  front_end_.Disconnect();
  FrontEnd again;
  ASSERT_TRUE(again.Connect(target.target().SocketPath("c")));
  ASSERT_TRUE(again.Send(Request::kGetFeatures, {}));
  // The previous session still exists, and the new one has not been accepted.
  EXPECT_TRUE(target.WaitForEnd());
  EXPECT_EQ(target.target().SessionCount("c"), 1u);
  EXPECT_EQ(target.target().Delete("c"), EBUSY);
  target.Answer(7);
  EXPECT_TRUE(driver_.Wait(head));
  EXPECT_TRUE(again.Receive());
}

TEST_P(ResumeTest, ARequestMadeAvailableTwiceBreaksTheVring) {
  SlowTarget target(packed());
  Connect(target, BaseAfter(0));
  base::UniqueFd error(::eventfd(0, EFD_CLOEXEC));
  ASSERT_TRUE(front_end_.SetVringFd(Request::kSetVringErr, 1, error.get()));
  const uint16_t head = Submit(7);
  ASSERT_TRUE(target.WaitForPending(1));
  if (packed()) {
    const virtio::PackedPosition next = driver_.packed().next_available();
    virtio::PackedDescriptor& again = driver_.packed().ring().descriptors[next.index];
    again = {.address = ram_.guest_address(), .size_bytes = 1, .id = head, .flags = 0};
    virtio::StoreRelease(again.flags, virtio::AvailableState(next.wrap));
  } else {
    const auto& ring = driver_.split().ring();
    ring.available_head(1) = head;
    virtio::StoreRelease(ring.available_index(), uint16_t{2});
  }
  driver_.Kick();
  pollfd waited{.fd = error.get(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(::poll(&waited, 1, 10'000), 1);
  // Outstanding requests are completed nevertheless.
  target.Answer(7);
  EXPECT_TRUE(driver_.Wait(head));
}

// A driver that was reset starts at the beginning of its ring, whatever the inflight buffer says.
TEST_P(ResumeTest, TheFrontEndSetsTheBaseOfAStoppedRing) {
  SlowTarget target(packed());
  Connect(target, BaseAfter(0));
  for (uint64_t lba = 0; lba < 5; ++lba) {
    const uint16_t head = Submit(lba);
    ASSERT_TRUE(target.WaitForPending(1));
    target.AnswerAll();
    ASSERT_TRUE(driver_.Wait(head));
  }
  ASSERT_EQ(front_end_.StopVring(1), BaseAfter(5));
  driver_.ring().Reset();
  ASSERT_TRUE(driver_.Start(front_end_, 1, BaseAfter(0)));
  const uint16_t head = Submit(9);
  ASSERT_TRUE(target.WaitForPending(1));
  target.AnswerAll();
  EXPECT_TRUE(driver_.Wait(head));
}

TEST_P(ResumeTest, SurvivesArbitraryInflightBuffers) {
  SlowTarget target(packed());
  Connect(target, BaseAfter(0));
  for (uint32_t seed = 0; seed < 50; ++seed) {
    front_end_.Disconnect();
    ASSERT_TRUE(target.target().WaitForSessions("c", 0));
    // The front end can write anything to the buffer.
    std::vector<std::byte> junk(inflight_->description.mmap_bytes);
    for (size_t i = 0; i < junk.size(); ++i) {
      junk[i] = static_cast<std::byte>(i * 2654435761u >> (seed % 24));
    }
    const uint16_t version = 1, entries = 64;
    const size_t region = junk.size() / 2;
    std::memcpy(&junk[region + 8], &version, sizeof version);
    std::memcpy(&junk[region + 10], &entries, sizeof entries);
    ASSERT_EQ(::pwrite(inflight_->fd.get(), junk.data(), junk.size(), 0),
              static_cast<ssize_t>(junk.size()));
    Connect(target, BaseAfter(0));
    ASSERT_TRUE(front_end_.StopVring(1));
    target.AnswerAll();
  }
}

}  // namespace
}  // namespace sma::storage_target::vhost_user
