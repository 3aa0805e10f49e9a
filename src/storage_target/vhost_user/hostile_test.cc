// SPDX-License-Identifier: Apache-2.0

// Tests guests and front ends that violate the protocol: only their own vring breaks, and others
// are not affected.

#include <gtest/gtest.h>
#include <linux/virtio_blk.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/peer_log.h"
#include "base/testing/captured_log.h"
#include "base/testing/lowered_descriptor_limit.h"
#include "harness/vhost_user/blk_driver.h"
#include "harness/vhost_user/front_end.h"
#include "harness/vhost_user/guest_ram.h"
#include "storage_target/vhost_user/testing/test_target.h"
#include "storage_target/virtio/shared_fields.h"

namespace sma::storage_target::vhost_user {
namespace {

using harness::BlkDriver;
using harness::FrontEnd;
using harness::GuestRam;
using virtio::Descriptor;
using virtio::PackedDescriptor;
using virtio::SplitRing;

constexpr uint64_t kGuestAddress = 0x1'0000'0000;
constexpr uint64_t kUserAddress = 0x7abc'0000'0000;
constexpr size_t kRamBytes = 16 << 20;

bool WaitReadable(int fd) {
  pollfd waited{.fd = fd, .events = POLLIN, .revents = 0};
  return ::poll(&waited, 1, 10'000) == 1;
}

// A guest with a vring 0 that it misuses and a vring 1 that it uses correctly.
class Guest {
 public:
  explicit Guest(const TestTarget& target, const std::string& controller, bool packed = false)
      : bad_(ram_, {.size = 16, .indirect = true, .packed = packed}),
        good_(ram_, {.size = 16, .packed = packed}) {
    EXPECT_TRUE(front_end_.Connect(target.SocketPath(controller)));
    EXPECT_TRUE(front_end_.Negotiate());
    GuestRam* rams[] = {&ram_};
    EXPECT_TRUE(front_end_.SetMemTable(rams));
    EXPECT_TRUE(bad_.Start(front_end_, 0));
    EXPECT_TRUE(front_end_.SetVringFd(Request::kSetVringErr, 0, error_.get()));
    EXPECT_TRUE(good_.Start(front_end_, 1));
  }

  const SplitRing& ring() { return bad_.split().ring(); }
  GuestRam& ram() { return ram_; }
  BlkDriver& bad() { return bad_; }
  BlkDriver& good() { return good_; }
  FrontEnd& front_end() { return front_end_; }
  bool WaitForError() { return WaitReadable(error_.get()); }

  void Describe(uint16_t index, const Descriptor& descriptor) {
    ring().descriptors[index] = descriptor;
  }
  // Writes descriptors at the start of an unused packed ring, the first one last.
  void OfferPacked(std::vector<PackedDescriptor> descriptors) {
    const virtio::PackedRing& packed = bad_.packed().ring();
    for (size_t i = descriptors.size(); i > 0; --i) {
      PackedDescriptor& place = packed.descriptors[(i - 1) % packed.size];
      const uint16_t flags = std::exchange(descriptors[i - 1].flags, place.flags);
      place = descriptors[i - 1];
      virtio::StoreRelease(place.flags, flags);
    }
    bad_.Kick();
  }
  // Makes `heads` available without checking them.
  void Offer(std::span<const uint16_t> heads) {
    for (uint16_t head : heads) ring().available_head(offered_++ & (ring().size - 1)) = head;
    virtio::StoreRelease(ring().available_index(), offered_);
    bad_.Kick();
  }

  bool IsServed(BlkDriver& driver) {
    std::vector<std::byte> data(512);
    return driver.Read(0, data) == VIRTIO_BLK_S_OK;
  }

 private:
  GuestRam ram_{kRamBytes, kGuestAddress, kUserAddress};
  FrontEnd front_end_;
  BlkDriver bad_;
  BlkDriver good_;
  base::UniqueFd error_{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  uint16_t offered_ = 0;
};

class HostileTest : public testing::Test {
 protected:
  void SetUp() override {
    target_.AddDisk("disk");
    ASSERT_EQ(target_.Create({.name = "c", .bdev_name = "disk"}), 0);
    ASSERT_EQ(target_.Create({.name = "p", .bdev_name = "disk", .packed_ring = true}), 0);
  }

  // Expects that the vring breaks and signals its error descriptor, that the same guest's other
  // vring and another guest continue, and that the vring works again after a restart.
  void ExpectBreaks(const char* what, const std::function<void(Guest&)>& misuse,
                    bool packed = false) {
    SCOPED_TRACE(what);
    Guest guest(target_, packed ? "p" : "c", packed);
    Guest other(target_, "c");
    misuse(guest);
    EXPECT_TRUE(guest.WaitForError());
    EXPECT_TRUE(guest.IsServed(guest.good()));
    EXPECT_TRUE(other.IsServed(other.bad()));
    EXPECT_TRUE(guest.front_end().StopVring(0));
    guest.bad().ring().Reset();
    EXPECT_TRUE(guest.bad().Start(guest.front_end(), 0));
    EXPECT_TRUE(guest.IsServed(guest.bad()));
  }

  // Offers one chain of these descriptors, the first at index 0.
  void ExpectBreaksOn(const char* what, std::vector<Descriptor> descriptors) {
    ExpectBreaks(what, [&](Guest& guest) {
      for (uint16_t i = 0; i < descriptors.size(); ++i) guest.Describe(i, descriptors[i]);
      guest.Offer({{0}});
    });
  }

  void ExpectPackedBreaksOn(const char* what, const std::vector<PackedDescriptor>& descriptors) {
    ExpectBreaks(
        what, [&](Guest& guest) { guest.OfferPacked(descriptors); }, /*packed=*/true);
  }

  TestTarget target_;
};

TEST_F(HostileTest, InvalidChainsBreakThePackedVring) {
  constexpr uint16_t kHere = PackedDescriptor::kAvailable;
  constexpr uint16_t kNext = kHere | PackedDescriptor::kNext, kWrite = PackedDescriptor::kWrite;
  constexpr uint16_t kTable = kHere | PackedDescriptor::kIndirect;
  const uint64_t ram = kGuestAddress + kRamBytes / 2;
  ExpectPackedBreaksOn("nothing in it", {{0, 0, 0, kHere}});
  ExpectPackedBreaksOn("no status", {{ram, 16, 0, kHere}});
  ExpectPackedBreaksOn("an ID beyond", {{ram, 16, 0, kNext}, {ram, 1, 16, kHere | kWrite}});
  ExpectPackedBreaksOn("an ID far beyond", {{ram, 16, 0, kNext}, {ram, 1, 0xffff, kHere | kWrite}});
  ExpectPackedBreaksOn("no end", std::vector<PackedDescriptor>(16, {ram, 1, 0, kNext}));
  ExpectPackedBreaksOn("nothing available next", {{ram, 16, 0, kNext}, {ram, 1, 0, kWrite}});
  ExpectPackedBreaksOn("address 0", {{ram, 16, 0, kNext}, {0, 512, 0, kHere | kWrite}});
  ExpectPackedBreaksOn("size beyond", {{ram, 16, 0, kNext}, {ram, 0xffffffff, 0, kHere | kWrite}});
  ExpectPackedBreaksOn("order", {{ram, 1, 0, kNext | kWrite}, {ram, 16, 0, kHere}});
  ExpectPackedBreaksOn("huge table", {{ram, 0xfffffff0, 0, kTable}});
  ExpectPackedBreaksOn("table that goes on", {{ram, 16, 0, kTable | kNext}, {ram, 1, 0, kHere}});
}

TEST_F(HostileTest, InvalidChainsBreakTheVring) {
  constexpr uint16_t kNext = Descriptor::kNext, kWrite = Descriptor::kWrite;
  const uint64_t ram = kGuestAddress + kRamBytes / 2;
  ExpectBreaksOn("no descriptor", {{0, 0, 0, 0}});
  ExpectBreaksOn("no status", {{ram, 16, 0, 0}});
  ExpectBreaksOn("loop of one", {{ram, 16, kNext, 0}});
  ExpectBreaksOn("loop of two", {{ram, 16, kNext, 1}, {ram, 16, kNext, 0}});
  ExpectBreaksOn("loop at the end", {{ram, 16, kNext, 1}, {ram, 16, kNext | kWrite, 1}});
  ExpectBreaksOn("next beyond the table", {{ram, 16, kNext, 16}});
  ExpectBreaksOn("address 0", {{ram, 16, kNext, 1}, {0, 512, kWrite, 0}});
  ExpectBreaksOn("address beyond", {{ram, 16, kNext, 1}, {UINT64_MAX - 3, 512, kWrite, 0}});
  ExpectBreaksOn("size beyond", {{ram, 16, kNext, 1}, {ram, 0xffffffff, kWrite, 0}});
  ExpectBreaksOn("address of the front end", {{ram, 16, kNext, 1}, {kUserAddress, 512, kWrite, 0}});
  ExpectBreaksOn("order", {{ram, 1, kNext | kWrite, 1}, {ram, 16, 0, 0}});
  ExpectBreaksOn("nested tables", {{kGuestAddress, 16, Descriptor::kIndirect, 0}});
  ExpectBreaksOn("huge table", {{ram, 0xfffffff0, Descriptor::kIndirect, 0}});
}

TEST_F(HostileTest, InvalidIndexesBreakTheVring) {
  ExpectBreaks("head beyond the table", [](Guest& guest) { guest.Offer({{16}}); });
  ExpectBreaks("head far beyond", [](Guest& guest) { guest.Offer({{0xffff}}); });
  ExpectBreaks("more available than fit", [](Guest& guest) {
    virtio::StoreRelease(guest.ring().available_index(), uint16_t{17});
    guest.bad().Kick();
  });
  ExpectBreaks("index goes back", [](Guest& guest) {
    ASSERT_TRUE(guest.IsServed(guest.bad()));
    virtio::StoreRelease(guest.ring().available_index(), uint16_t{0});
    guest.bad().Kick();
  });
}

TEST_F(HostileTest, SignalsALateErrorDescriptor) {
  Guest guest(target_, "c");
  guest.Offer({{16}});
  EXPECT_TRUE(guest.WaitForError());
  const base::UniqueFd late(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  ASSERT_TRUE(guest.front_end().SetVringFd(Request::kSetVringErr, 0, late.get()));
  EXPECT_TRUE(WaitReadable(late.get()));
}

TEST_F(HostileTest, TruncatedMemoryBreaksTheVringsOfThatGuest) {
  Guest guest(target_, "c");
  Guest other(target_, "c");
  ASSERT_EQ(::ftruncate(guest.ram().fd(), 0), 0);
  guest.bad().Kick();
  EXPECT_TRUE(guest.WaitForError());
  EXPECT_TRUE(other.IsServed(other.good()));
}

TEST_F(HostileTest, BuffersMayOverlapEachOtherAndTheRings) {
  Guest guest(target_, "c");
  const uint64_t ram = kGuestAddress + kRamBytes / 2;
  const virtio_blk_outhdr header{.type = VIRTIO_BLK_T_IN, .ioprio = 0, .sector = 0};
  std::memcpy(guest.ram().At(ram), &header, sizeof header);
  // The data overwrite the header, the data themselves and the descriptors, and so does the status.
  const uint64_t rings = guest.bad().ring().descriptors_address();
  guest.Describe(0, {ram, 16, Descriptor::kNext, 1});
  guest.Describe(1, {ram, 512, Descriptor::kNext | Descriptor::kWrite, 2});
  guest.Describe(2, {ram + 100, 512, Descriptor::kNext | Descriptor::kWrite, 3});
  guest.Describe(3, {rings, 256, Descriptor::kNext | Descriptor::kWrite, 4});
  guest.Describe(4, {rings, 257, Descriptor::kWrite, 0});
  guest.Offer({{0}});
  EXPECT_TRUE(WaitReadable(guest.bad().call_fd()));
  EXPECT_TRUE(guest.IsServed(guest.good()));
}

TEST_F(HostileTest, TheSameRequestTwiceBreaksTheVring) {
  // The same head is offered twice in one batch. With a fast bdev the first is completed before the
  // second is read, so that no misuse is visible. resume_test.cc contains the test with a slow
  // bdev.
  Guest guest(target_, "c");
  const uint64_t ram = kGuestAddress + kRamBytes / 2;
  guest.Describe(0, {ram, 16, Descriptor::kNext, 1});
  guest.Describe(1, {ram + 16, 1, Descriptor::kWrite, 0});
  guest.Offer({{0, 0, 0}});
  EXPECT_TRUE(WaitUntil([&] { return virtio::LoadAcquire(guest.ring().used_index()) == 3; }));
  EXPECT_TRUE(guest.IsServed(guest.good()));
}

// Returns the name of a controller that does not share its limit of log lines with those of other
// tests, which may have reached it.
std::string NameWithOwnLogLimit() {
  static std::vector<std::string> others{
      "a", "b", "c", "first", "last", "other", "received descriptors"};
  base::PeerLog& log = base::LogOfPeers();
  std::string name = "flood";
  while (std::ranges::any_of(
      others, [&](const std::string& other) { return &log.LimitOf(other) == &log.LimitOf(name); }))
    name += "d";
  others.push_back(name);
  return name;
}

TEST(LogTest, AFrontEndThatReconnectsDoesNotFillTheLog) {
  const std::string name = NameWithOwnLogLimit();
  base::CapturedLog log;
  TestTarget target;
  target.AddDisk("disk");
  ASSERT_EQ(target.Create({.name = name, .bdev_name = "disk"}), 0);
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 300; ++i) {
    FrontEnd front_end;
    ASSERT_TRUE(front_end.Connect(target.SocketPath(name)));
    ASSERT_TRUE(front_end.AskNumber(Request::kGetFeatures));
  }
  ASSERT_TRUE(target.WaitForSessions(name, 0));
  const auto elapsed = std::chrono::steady_clock::now() - start;
  EXPECT_GE(log.Count("vhost " + name + ": front end"), 50U);
  EXPECT_LE(log.Count(name + ": "), 2 * (101 + elapsed / std::chrono::seconds(1)));
}

TEST(DescriptorTest, AFrontEndThatSendsManyLeavesSomeForOthers) {
  TestTarget target;
  target.AddDisk("disk");
  for (const char* name : {"a", "b"}) {
    ASSERT_EQ(target.Create({.name = name, .bdev_name = "disk"}), 0);
  }
  FrontEnd first;
  FrontEnd second;
  ASSERT_TRUE(first.Connect(target.SocketPath("a")) && first.Negotiate());
  ASSERT_TRUE(second.Connect(target.SocketPath("b")) && second.Negotiate());
  const base::UniqueFd eventfd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  const auto send_many = [&eventfd](FrontEnd& front_end) {
    uint16_t count = 0;
    while (count < 128 && front_end.SetVringFd(Request::kSetVringErr, count, eventfd.get()))
      ++count;
    return count;
  };
  // 120 more can be opened outside the reserve of a quarter.
  const base::LoweredDescriptorLimit limit((static_cast<rlim_t>(eventfd.get()) + 120) * 4 / 3);
  EXPECT_LE(send_many(first), 50);
  EXPECT_GE(send_many(second), 16);
  // An eventfd may be replaced nevertheless.
  EXPECT_TRUE(first.SetVringFd(Request::kSetVringErr, 0, eventfd.get()));
}

}  // namespace
}  // namespace sma::storage_target::vhost_user
