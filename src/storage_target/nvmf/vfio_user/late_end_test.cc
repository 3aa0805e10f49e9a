// SPDX-License-Identifier: Apache-2.0

// Tests the deletion of queues whose commands are being executed by the medium.

#include "storage_target/nvmf/vfio_user/testing/function_fixture.h"

namespace sma::storage_target::nvmf::vfio_user {
namespace {

using harness::NvmeQueue;
using nvme::AdminOpcode;
using nvme::Command;
using nvme::IoOpcode;
using nvme::Property;
using nvme::Status;

class LateEndTest : public FunctionTest {
 protected:
  void SetUp() override {
    FunctionTest::SetUp();
    target.medium.complete_at_once = false;
    target.AddMedium();
    ASSERT_TRUE(driver.Enable());
    ASSERT_TRUE(driver.Create(queue));
  }
  // Starts a read that the medium does not complete until it is told to.
  void BeginRead() {
    Command read = harness::IoCommand(IoOpcode::kRead, 0, 1, TestTarget::kMediumNsid);
    harness::SetPrps(read, std::vector<uint64_t>{page.guest_address}, list);
    queue.Push(read);
    driver.RingTail(queue);
    Settle();
    target.io().Invoke([this] { ASSERT_EQ(target.medium.pending.size(), 1u); });
  }
  void BeginDeletion() {
    Command command;
    command.opcode = static_cast<uint8_t>(AdminOpcode::kDeleteIoSq);
    command.cdw10 = queue.id();
    driver.admin().Push(command);
    driver.RingTail(driver.admin());
    EXPECT_NE(driver.Read(Property::kVs), 0u);  // the message with the doorbell was handled
  }
  // Waits until all messages between the two reactors have been delivered.
  void Settle() {
    for (int i = 0; i < 8; ++i) {
      target.io().Invoke([] {});
      target.InControl([] {});
    }
  }
  void Answer() {
    target.io().Invoke([this] {
      static_cast<bdev::TestChannel&>(*target.medium.pending.front()->channel)
          .CompletePending(bdev::IoStatus::kOk);
    });
  }

  NvmeQueue queue{ram, 1, 64, 64};
  harness::GuestBuffer page = ram.Allocate(kPage, kPage);
};

TEST_F(LateEndTest, DisabledWhileAQueueIsBeingDeleted) {
  BeginRead();
  BeginDeletion();
  driver.Write(Property::kCc, 0);
  Settle();  // the admin queue has no commands and is removed
  Answer();
  EXPECT_TRUE(driver.WaitStatus(nvme::kCstsReady, 0));
  EXPECT_TRUE(driver.Enable());
}

TEST_F(LateEndTest, ClientDisconnectsWhileAQueueIsBeingDeleted) {
  BeginRead();
  BeginDeletion();
  client.Disconnect();
  Settle();
  Answer();
  Connect();
  EXPECT_TRUE(driver.Enable());
}

}  // namespace
}  // namespace sma::storage_target::nvmf::vfio_user
