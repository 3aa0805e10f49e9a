// SPDX-License-Identifier: Apache-2.0

// Tests VMMs that disconnect while their commands are waiting: these commands must not overwrite
// data that the next VMM writes.

#include <poll.h>

#include <future>
#include <thread>

#include "storage_target/bdev/testing/test_bdev.h"
#include "storage_target/nvmf/vfio_user/testing/function_fixture.h"

namespace sma::storage_target::nvmf::vfio_user {
namespace {

using harness::GuestBuffer;
using harness::NvmeDriver;
using harness::NvmeQueue;
using nvme::Command;
using nvme::IoOpcode;
using nvme::Status;

// A VMM with its own memory.
struct Guest {
  explicit Guest(const std::string& path) {
    EXPECT_TRUE(client.Connect(path));
    EXPECT_TRUE(client.Negotiate());
    EXPECT_EQ(client.Map(ram), 0);
    EXPECT_TRUE(driver.Enable());
    EXPECT_TRUE(driver.Create(queue));
  }
  Command Block(IoOpcode opcode, uint64_t lba, uint32_t nsid = 1) {
    Command command = harness::IoCommand(opcode, lba, 1);
    command.nsid = nsid;
    command.sgl.address = page.guest_address;
    return command;
  }

  harness::GuestRam ram{16 << 20, 0x100000, 0};
  harness::VfioUserClient client;
  NvmeDriver driver{client, ram};
  NvmeQueue queue{ram, 1, 64, 64};
  GuestBuffer page = ram.Allocate(4096, 4096);
};

class DepartureTest : public testing::Test {
 protected:
  // Returns the first byte of a block on the disk.
  static int Read(Guest& guest, uint64_t lba) {
    guest.page.bytes[0] = std::byte{0xee};
    EXPECT_EQ(guest.driver.Run(guest.queue, guest.Block(IoOpcode::kRead, lba)), Status::kSuccess);
    return static_cast<int>(guest.page.bytes[0]);
  }
  void AddTestDisk() {
    target_.InControl([&] {
      EXPECT_EQ(
          target_.registry().Register(std::make_unique<bdev::TestBdev>(
              bdev::Bdev::Info{.name = "test", .block_size = 4096, .block_count = 64}, module_)),
          0);
    });
    target_.Wait([&](auto done) {
      target_.subsystem().namespaces().Add({.bdev_name = "test"}, [done](auto nsid) {
        EXPECT_EQ(*nsid, 2u);
        done();
      });
    });
    module_.complete_at_once = false;
  }
  size_t PendingCount() {
    size_t count = 0;
    target_.io().Invoke([&] { count = module_.pending.size(); });
    return count;
  }
  void CompletePending() {
    target_.io().Invoke([&] {
      static_cast<bdev::TestChannel*>(module_.pending.front()->channel)
          ->CompletePending(bdev::IoStatus::kOk);
    });
  }
  // Starts a write to the test disk and waits until the disk has received it.
  void BeginWrite(Guest& guest) {
    guest.queue.Push(guest.Block(IoOpcode::kWrite, 1, 2));
    guest.driver.RingTail(guest.queue);
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (PendingCount() == 0 && std::chrono::steady_clock::now() < until) {
    }
    ASSERT_EQ(PendingCount(), 1U);
  }

  bdev::TestModule module_;
  TestTarget target_;
};

TEST_F(DepartureTest, ThrottledWritesAreNotExecutedAfterTheirVmmDisconnects) {
  const auto limit = [&](const bdev::Limits& limits) {
    target_.InControl(
        [&] { target_.registry().SetLimits(*target_.registry().Find("disk"), limits); });
  };
  {
    Guest first(target_.socket_path());
    // One block is written immediately; the last one would be written half a minute later.
    limit({.w_bytes_per_sec = 4096});
    first.page.bytes[0] = std::byte{1};
    for (uint64_t lba = 0; lba < 30; ++lba) first.queue.Push(first.Block(IoOpcode::kWrite, lba));
    first.driver.RingTail(first.queue);
    ASSERT_TRUE(first.driver.Wait(first.queue));
  }
  Guest second(target_.socket_path());
  limit({});
  second.page.bytes[0] = std::byte{2};
  EXPECT_EQ(second.driver.Run(second.queue, second.Block(IoOpcode::kWrite, 29)), Status::kSuccess);
  EXPECT_EQ(Read(second, 0), 1);
  EXPECT_EQ(Read(second, 28), 0);
  EXPECT_EQ(Read(second, 29), 2);
}

// The reactor is stopped until the VMM has left; the end of the limit is its next task.
TEST_F(DepartureTest, ThrottledWritesAreNotExecutedAfterAStop) {
  const auto limit = [&](const bdev::Limits& limits) {
    target_.InControl(
        [&] { target_.registry().SetLimits(*target_.registry().Find("disk"), limits); });
  };
  limit({.w_bytes_per_sec = 1});
  std::promise<void> are_held[2], released[2];
  {
    Guest first(target_.socket_path());
    first.page.bytes[0] = std::byte{1};
    EXPECT_EQ(first.driver.Run(first.queue, first.Block(IoOpcode::kWrite, 0)), Status::kSuccess);
    first.queue.Push(first.Block(IoOpcode::kWrite, 1));
    first.driver.RingTail(first.queue);
    EXPECT_EQ(Read(first, 2), 0);  // the write waits
    first.page.bytes[0] = std::byte{1};
    for (int i = 0; i < 2; ++i) {
      target_.io().Post([&, i] {
        are_held[i].set_value();
        released[i].get_future().wait();
      });
    }
    are_held[0].get_future().wait();
    limit({});
    released[0].set_value();
    are_held[1].get_future().wait();
  }
  std::this_thread::sleep_for(2 * Reactor::kDelay);  // the measured time
  released[1].set_value();
  Guest second(target_.socket_path());
  EXPECT_EQ(Read(second, 0), 1);
  EXPECT_EQ(Read(second, 1), 0);
}

// Commands that were not sent can be aborted, as with a remote disk that cannot be reached.
TEST_F(DepartureTest, CommandsOfAnUnreachableDiskAreAborted) {
  AddTestDisk();
  module_.can_abort = true;
  {
    Guest first(target_.socket_path());
    BeginWrite(first);
  }
  Guest second(target_.socket_path());
  EXPECT_EQ(PendingCount(), 0U);
}

TEST_F(DepartureTest, TheNextVmmWaitsForCommandsInTheMedium) {
  AddTestDisk();
  {
    Guest first(target_.socket_path());
    BeginWrite(first);
  }
  harness::VfioUserClient second;
  ASSERT_TRUE(second.Connect(target_.socket_path()));
  std::thread negotiation([&] { EXPECT_TRUE(second.Negotiate()); });
  pollfd answered{.fd = second.fd(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(::poll(&answered, 1, 200), 0);
  EXPECT_EQ(PendingCount(), 1U);
  CompletePending();
  negotiation.join();
}

}  // namespace
}  // namespace sma::storage_target::nvmf::vfio_user
