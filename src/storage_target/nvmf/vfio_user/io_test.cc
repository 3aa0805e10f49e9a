// SPDX-License-Identifier: Apache-2.0

#include <linux/vfio.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <future>
#include <list>
#include <map>

#include "storage_target/nvme/identify.h"
#include "storage_target/nvme/nqn.h"
#include "storage_target/nvmf/vfio_user/testing/function_fixture.h"

namespace sma::storage_target::nvmf::vfio_user {
namespace {

using harness::GuestBuffer;
using harness::IoCommand;
using harness::NvmeQueue;
using nvme::AdminOpcode;
using nvme::Command;
using nvme::IoOpcode;
using nvme::Status;

class IoTest : public FunctionTest {
 protected:
  void SetUp() override {
    FunctionTest::SetUp();
    ASSERT_TRUE(driver.Enable());
    ASSERT_TRUE(driver.Create(queue));
  }

  NvmeQueue queue{ram, 1, 64, 64};
};

TEST_F(IoTest, IdentifyDescribesAPciFunction) {
  GuestBuffer page = ram.Allocate(kPage, kPage);
  Command command;
  command.opcode = static_cast<uint8_t>(AdminOpcode::kIdentify);
  command.cdw10 = static_cast<uint32_t>(nvme::Cns::kController);
  command.sgl.address = page.guest_address;
  ASSERT_EQ(driver.AdminStatus(command), Status::kSuccess);
  nvme::IdentifyController id;
  std::memcpy(&id, page.bytes.data(), sizeof id);
  EXPECT_EQ(nvme::NulTerminated(id.subsystem_nqn), TestTarget::kNqn);
  EXPECT_EQ(id.mdts, 5);
  EXPECT_EQ(id.sgls, nvme::kSglsSupported);
  EXPECT_EQ(id.ioccsz, 0u);
  EXPECT_NE(id.oacs & nvme::kOacsDoorbellBufferConfig, 0);
}

TEST_F(IoTest, WritesAndReadsThroughPrps) {
  // Tests one page, two pages, and enough pages for a PRP list, beginning at the start of a page
  // and in the middle of one.
  for (uint32_t pages : {1u, 2u, 3u, 32u}) {
    GuestBuffer out = ram.Allocate(pages * kPage, kPage);
    GuestBuffer in = ram.Allocate(pages * kPage, kPage);
    Fill(out.bytes, pages);
    ASSERT_EQ(driver.Run(queue, OverPages(IoOpcode::kWrite, pages, out)), Status::kSuccess);
    ASSERT_EQ(driver.Run(queue, OverPages(IoOpcode::kRead, pages, in)), Status::kSuccess);
    EXPECT_TRUE(Holds(in.bytes, pages)) << pages;
  }
}

TEST_F(IoTest, PagesNeedNotBeInOrder) {
  GuestBuffer memory = ram.Allocate(8 * kPage, kPage);
  const uint64_t base = memory.guest_address;
  const std::vector<uint64_t> pages{base + 7 * kPage + 512, base + 2 * kPage, base + 5 * kPage,
                                    base};
  Fill(memory.bytes, 3);
  // Three blocks that begin 512 bytes into a page: four pages, the last partially used.
  Command command = IoCommand(IoOpcode::kWrite, 100, 3);
  harness::SetPrps(command, pages, list);
  ASSERT_EQ(driver.Run(queue, command), Status::kSuccess);
  GuestBuffer in = ram.Allocate(3 * kPage, kPage);
  ASSERT_EQ(driver.Run(queue, OverPages(IoOpcode::kRead, 100, in)), Status::kSuccess);
  const auto piece = [&](size_t page, size_t offset) {
    return memory.bytes.data() + page * kPage + offset;
  };
  EXPECT_EQ(std::memcmp(in.bytes.data(), piece(7, 512), kPage - 512), 0);
  EXPECT_EQ(std::memcmp(in.bytes.data() + kPage - 512, piece(2, 0), kPage), 0);
  EXPECT_EQ(std::memcmp(in.bytes.data() + 2 * kPage - 512, piece(5, 0), kPage), 0);
  EXPECT_EQ(std::memcmp(in.bytes.data() + 3 * kPage - 512, piece(0, 0), 512), 0);
}

TEST_F(IoTest, PrpListsAreChained) {
  GuestBuffer out = ram.Allocate(8 * kPage, kPage);
  GuestBuffer lists = ram.Allocate(2 * kPage, kPage);
  Fill(out.bytes, 9);
  Command command = OverPages(IoOpcode::kWrite, 0, out);
  ChainPrpLists(command, out, lists);
  ASSERT_EQ(driver.Run(queue, command), Status::kSuccess);
  GuestBuffer in = ram.Allocate(8 * kPage, kPage);
  ASSERT_EQ(driver.Run(queue, OverPages(IoOpcode::kRead, 0, in)), Status::kSuccess);
  EXPECT_TRUE(Holds(in.bytes, 9));
}

TEST_F(IoTest, SglsOfOneAndManySegments) {
  GuestBuffer out = ram.Allocate(4 * kPage, kPage);
  Fill(out.bytes, 4);
  Command command = IoCommand(IoOpcode::kWrite, 8, 4);
  command.flags = nvme::kPsdtSgl;
  command.sgl = {.address = out.guest_address, .length = 4 * kPage};
  ASSERT_EQ(driver.Run(queue, command), Status::kSuccess);

  GuestBuffer in = ram.Allocate(4 * kPage, kPage);
  GuestBuffer segments = ram.Allocate(kPage, kPage);
  const uint64_t next = segments.guest_address + 1024;
  const nvme::Sgl first[] = {
      {.address = in.guest_address, .length = 100},
      {.address = in.guest_address + 100, .length = kPage},
      {.address = next, .length = 2 * sizeof(nvme::Sgl), .type = nvme::SglType::kLastSegment}};
  const nvme::Sgl last[] = {{.address = in.guest_address + 100 + kPage, .length = 3 * kPage - 101},
                            {.address = in.guest_address + 4 * kPage - 1, .length = 1}};
  std::memcpy(segments.bytes.data(), first, sizeof first);
  std::memcpy(segments.bytes.data() + 1024, last, sizeof last);
  command = IoCommand(IoOpcode::kRead, 8, 4);
  command.flags = nvme::kPsdtSgl;
  command.sgl = {
      .address = segments.guest_address, .length = sizeof first, .type = nvme::SglType::kSegment};
  ASSERT_EQ(driver.Run(queue, command), Status::kSuccess);
  EXPECT_TRUE(Holds(in.bytes, 4));
}

TEST_F(IoTest, RingsWrapAround) {
  GuestBuffer out = ram.Allocate(kPage, kPage);
  GuestBuffer in = ram.Allocate(kPage, kPage);
  for (uint32_t i = 0; i < 3 * queue.sq_size() + 5; ++i) {
    Fill(out.bytes, i);
    ASSERT_EQ(driver.Run(queue, OverPages(IoOpcode::kWrite, i, out)), Status::kSuccess);
    ASSERT_EQ(driver.Run(queue, OverPages(IoOpcode::kRead, i, in)), Status::kSuccess);
    ASSERT_TRUE(Holds(in.bytes, i)) << i;
  }
}

// There are more completions than the queue has room for.
TEST_F(IoTest, CompletionsWaitForRoomInTheQueue) {
  NvmeQueue narrow(ram, 2, 64, 4);
  ASSERT_TRUE(driver.Create(narrow));
  GuestBuffer in = ram.Allocate(kPage, kPage);
  std::vector<bool> answered(63);
  for (uint32_t i = 0; i < 63; ++i) narrow.Push(OverPages(IoOpcode::kRead, i, in));
  driver.RingTail(narrow);
  for (uint32_t i = 0; i < 63; ++i) {
    auto completion = driver.Wait(narrow);
    ASSERT_TRUE(completion) << i;
    ASSERT_LT(completion->cid, 63);
    EXPECT_FALSE(answered[completion->cid]);
    answered[completion->cid] = true;
  }
  EXPECT_FALSE(narrow.Poll());
}

TEST_F(IoTest, ManyQueuesShareACompletionQueue) {
  NvmeQueue shared(ram, 2, 16, 256);
  ASSERT_EQ(driver.CreateCq(shared), Status::kSuccess);
  std::vector<std::unique_ptr<NvmeQueue>> queues;
  GuestBuffer in = ram.Allocate(kPage, kPage);
  for (uint16_t id = 2; id < 6; ++id) {
    queues.push_back(std::make_unique<NvmeQueue>(ram, id, 16, 2));
    ASSERT_EQ(driver.CreateSq(*queues.back(), 2), Status::kSuccess);
  }
  for (auto& each : queues) {
    for (int i = 0; i < 10; ++i) each->Push(OverPages(IoOpcode::kRead, 0, in));
    driver.RingTail(*each);
  }
  std::vector<int> counts(6);
  for (int i = 0; i < 40; ++i) {
    auto completion = driver.Wait(shared);
    ASSERT_TRUE(completion);
    ++counts.at(completion->sq_id);
  }
  EXPECT_EQ(counts, (std::vector<int>{0, 0, 10, 10, 10, 10}));
}

// A guest that creates all queues, of the largest size, costs the reactor little as long as it does
// not use them: neither memory nor the time to write to it.
TEST_F(IoTest, UnusedQueuesUseLittleMemory) {
  const auto resident_bytes = [] {
    size_t total = 0;
    size_t resident = 0;
    std::ifstream("/proc/self/statm") >> total >> resident;
    return resident * static_cast<size_t>(::getpagesize());
  };
  constexpr uint16_t kQueues = 100;
  std::list<NvmeQueue> queues;
  for (uint16_t id = 2; id < 2 + kQueues; ++id) queues.emplace_back(ram, id, 256, 256);
  const size_t before = resident_bytes();
  for (NvmeQueue& one : queues) ASSERT_TRUE(driver.Create(one));
  EXPECT_LT(resident_bytes() - before, size_t{20} << 20);
  EXPECT_EQ(driver.Run(queues.back(), OverPages(IoOpcode::kRead, 0, ram.Allocate(kPage, kPage))),
            Status::kSuccess);
}

TEST_F(IoTest, QueuesShareABoundedNumberOfBytesInARound) {
  constexpr uint32_t kPages = 32;
  constexpr uint64_t kCommandBytes = kPages * kPage;
  constexpr size_t kCommands = 16;  // of each queue
  constexpr uint64_t kMaxRoundBytes = 1 << 20;
  target.AddMedium();
  target.io().Invoke([&] { target.medium.complete_at_once = false; });
  NvmeQueue queues[] = {{ram, 11, 64, 64}, {ram, 12, 64, 64}};
  const GuestBuffer data = ram.Allocate(kCommandBytes, kPage);
  for (NvmeQueue& one : queues) {
    ASSERT_TRUE(driver.Create(one));
    for (uint64_t i = 0; i < kCommands; ++i) {
      Command command = OverPages(IoOpcode::kWrite, one.id(), data);
      command.nsid = TestTarget::kMediumNsid;
      one.Push(command);
    }
  }
  // Both doorbells are written before the reactor reads the first.
  std::promise<void> rung;
  target.io().Post([&] { rung.get_future().wait(); });
  for (NvmeQueue& one : queues) driver.RingTail(one);
  rung.set_value();
  std::vector<bdev::Io*> taken;
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (taken.size() < 2 * kCommands && std::chrono::steady_clock::now() < until)
    target.io().Invoke([&] { taken = target.medium.pending; });
  ASSERT_EQ(taken.size(), 2 * kCommands);

  std::map<uint64_t, uint64_t> bytes_of_round;
  for (const bdev::Io* io : taken) bytes_of_round[io->submit_ns] += kCommandBytes;
  for (const auto& [round_ns, bytes] : bytes_of_round) EXPECT_LE(bytes, kMaxRoundBytes);
  const auto first_half = std::span(taken).first(kCommands);
  EXPECT_GE(std::ranges::count(first_half, 12u, &bdev::Io::lba), 8);
  EXPECT_GE(std::ranges::count(first_half, 11u, &bdev::Io::lba), 8);
  target.io().Invoke([&] {
    static_cast<bdev::TestChannel*>(taken.front()->channel)->CompletePending(bdev::IoStatus::kOk);
  });
}

TEST_F(IoTest, InvalidDataPointersFailOnlyTheCommand) {
  GuestBuffer in = ram.Allocate(2 * kPage, kPage);
  Command outside = OverPages(IoOpcode::kRead, 0, in);
  outside.sgl.address = kRamAddress - kPage;
  EXPECT_EQ(driver.Run(queue, outside), Status::kDataTransferError);
  outside.sgl.address = UINT64_MAX - kPage + 1;
  EXPECT_EQ(driver.Run(queue, outside), Status::kDataTransferError);
  Command half = OverPages(IoOpcode::kRead, 0, in);
  SetPrp2(half, in.guest_address + kPage + 8);
  EXPECT_EQ(driver.Run(queue, half), Status::kInvalidPrpOffset);
  Command sgl = IoCommand(IoOpcode::kRead, 0, 1);
  sgl.flags = nvme::kPsdtSgl;
  sgl.sgl = {.address = in.guest_address, .length = 100};
  EXPECT_EQ(driver.Run(queue, sgl), Status::kDataSglLengthInvalid);
  sgl.sgl = {.address = in.guest_address, .length = 4096, .type = nvme::SglType::kKeyedDataBlock};
  EXPECT_EQ(driver.Run(queue, sgl), Status::kSglDescriptorTypeInvalid);
  // A segment descriptor that refers to its own segment.
  const nvme::Sgl loop = {
      .address = in.guest_address, .length = sizeof(nvme::Sgl), .type = nvme::SglType::kSegment};
  std::memcpy(in.bytes.data(), &loop, sizeof loop);
  sgl.sgl = loop;
  EXPECT_EQ(driver.Run(queue, sgl), Status::kInvalidNumberOfSglDescriptors);
  Command fabrics;
  fabrics.opcode = static_cast<uint8_t>(AdminOpcode::kFabrics);
  EXPECT_EQ(driver.Run(queue, fabrics), Status::kInvalidOpcode);
  EXPECT_EQ(driver.AdminStatus(fabrics), Status::kInvalidOpcode);
  EXPECT_EQ(driver.Run(queue, OverPages(IoOpcode::kRead, 0, in)), Status::kSuccess);
}

TEST_F(IoTest, ReadOnlyMemoryIsNotWritten) {
  harness::GuestRam constant(1 << 20, 0x10000000, 0);
  ASSERT_EQ(client.Map(constant, storage_target::vfio_user::kDmaReadable), 0);
  GuestBuffer page = constant.Allocate(kPage, kPage);
  Fill(page.bytes, 5);
  EXPECT_EQ(driver.Run(queue, OverPages(IoOpcode::kWrite, 0, page)), Status::kSuccess);
  EXPECT_EQ(driver.Run(queue, OverPages(IoOpcode::kRead, 1, page)), Status::kDataTransferError);
  EXPECT_TRUE(Holds(page.bytes, 5));
}

TEST_F(IoTest, QueuesAreDeletedAndRecreated) {
  NvmeQueue other(ram, 2, 32, 32);
  GuestBuffer in = ram.Allocate(kPage, kPage);
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(driver.Create(other));
    EXPECT_EQ(driver.CreateSq(other, 2), Status::kInvalidQueueIdentifier);
    EXPECT_EQ(driver.CreateCq(other), Status::kInvalidQueueIdentifier);
    EXPECT_EQ(driver.Run(other, OverPages(IoOpcode::kRead, 0, in)), Status::kSuccess);
    EXPECT_EQ(driver.Delete(AdminOpcode::kDeleteIoCq, 2), Status::kInvalidQueueDeletion);
    EXPECT_EQ(driver.Delete(AdminOpcode::kDeleteIoSq, 2), Status::kSuccess);
    EXPECT_EQ(driver.Delete(AdminOpcode::kDeleteIoSq, 2), Status::kInvalidQueueIdentifier);
    EXPECT_EQ(driver.Delete(AdminOpcode::kDeleteIoCq, 2), Status::kSuccess);
    other.Clear();
  }
}

TEST_F(IoTest, QueuesWithInvalidParametersAreRefused) {
  EXPECT_EQ(driver.Delete(AdminOpcode::kDeleteIoSq, 0), Status::kInvalidQueueIdentifier);
  EXPECT_EQ(driver.Delete(AdminOpcode::kDeleteIoCq, 77), Status::kInvalidQueueIdentifier);
  EXPECT_EQ(driver.CreateCq(NvmeQueue(ram, 200, 8, 8)), Status::kInvalidQueueIdentifier);
  EXPECT_EQ(driver.CreateCq(NvmeQueue(ram, 2, 2, 1)), Status::kInvalidQueueSize);
  EXPECT_EQ(driver.CreateCq(NvmeQueue(ram, 2, 2, 257)), Status::kInvalidQueueSize);
  EXPECT_EQ(driver.CreateCq(NvmeQueue(ram, 2, 2, 8), 999), Status::kInvalidInterruptVector);
  EXPECT_EQ(driver.CreateSq(NvmeQueue(ram, 2, 8, 8), 3), Status::kCompletionQueueInvalid);
  Command command;
  command.opcode = static_cast<uint8_t>(AdminOpcode::kCreateIoCq);
  command.cdw10 = 7 << 16 | 2;
  command.cdw11 = 1;
  EXPECT_EQ(driver.AdminStatus(command), Status::kDataTransferError);
  command.sgl.address = kRamAddress + 8;
  EXPECT_EQ(driver.AdminStatus(command), Status::kInvalidPrpOffset);
}

TEST_F(IoTest, NamespaceChangesAreReported) {
  Command event;
  event.opcode = static_cast<uint8_t>(AdminOpcode::kAsyncEventRequest);
  Command enable;
  enable.opcode = static_cast<uint8_t>(AdminOpcode::kSetFeatures);
  enable.cdw10 = static_cast<uint32_t>(nvme::Feature::kAsyncEventConfig);
  enable.cdw11 = nvme::kAecNamespaceAttributes;
  ASSERT_EQ(driver.AdminStatus(enable), Status::kSuccess);
  driver.admin().Push(event);
  driver.RingTail(driver.admin());
  target.Wait([&](auto done) { EXPECT_EQ(target.subsystem().namespaces().Remove(1, done), 0); });
  auto completion = driver.Wait(driver.admin());
  ASSERT_TRUE(completion);
  EXPECT_EQ(completion->dw0 & 7, static_cast<uint32_t>(nvme::AsyncEventType::kNotice));
}

}  // namespace
}  // namespace sma::storage_target::nvmf::vfio_user
