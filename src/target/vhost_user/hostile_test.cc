// Guests and front ends that do what they may not: their own vring ends, nobody else notices.

#include <gtest/gtest.h>
#include <linux/virtio_blk.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <utility>

#include "harness/vhost_user/blk_driver.h"
#include "harness/vhost_user/front_end.h"
#include "harness/vhost_user/guest_ram.h"
#include "target/vhost_user/test_target.h"
#include "target/virtio/shared_fields.h"

namespace sma::target::vhost_user {
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

// A guest with a vring 0 that it will misuse and a vring 1 that it uses well.
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
  // Puts descriptors at the start of a packed ring that was not used yet, the first one last.
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
  // Makes `heads` available, whatever they are.
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

  // The vring is ended and says so; the same guest's other vring and another guest go on; the vring
  // works again after a restart.
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

  // One chain of these descriptors, the first at index 0.
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

TEST_F(HostileTest, BadChainsEndThePackedVring) {
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

TEST_F(HostileTest, BadChainsEndTheVring) {
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

TEST_F(HostileTest, BadIndexesEndTheVring) {
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

TEST_F(HostileTest, ADescriptorForErrorsThatComesLateIsNotified) {
  Guest guest(target_, "c");
  guest.Offer({{16}});
  EXPECT_TRUE(guest.WaitForError());
  const base::UniqueFd late(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  ASSERT_TRUE(guest.front_end().SetVringFd(Request::kSetVringErr, 0, late.get()));
  EXPECT_TRUE(WaitReadable(late.get()));
}

TEST_F(HostileTest, MemoryCutShortEndsTheVringsOfThatGuest) {
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
  // The data goes over the header, over itself and over the descriptors; the status too.
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

TEST_F(HostileTest, TheSameRequestTwiceEndsTheVring) {
  // Twice in one go: the first is answered before the second is looked at only if the bdev is that
  // quick, and then it is no misuse that can be seen. A bdev that waits is in resume_test.cc.
  Guest guest(target_, "c");
  const uint64_t ram = kGuestAddress + kRamBytes / 2;
  guest.Describe(0, {ram, 16, Descriptor::kNext, 1});
  guest.Describe(1, {ram + 16, 1, Descriptor::kWrite, 0});
  guest.Offer({{0, 0, 0}});
  EXPECT_TRUE(WaitUntil([&] { return virtio::LoadAcquire(guest.ring().used_index()) == 3; }));
  EXPECT_TRUE(guest.IsServed(guest.good()));
}

}  // namespace
}  // namespace sma::target::vhost_user
