// SPDX-License-Identifier: Apache-2.0

// Tests blocks that are sent from a malloc bdev while they are overwritten.

#include <poll.h>

#include <algorithm>
#include <future>

#include "storage_target/bdev/bdev.h"
#include "storage_target/bdev/channel.h"
#include "storage_target/bdev/in_place.h"
#include "storage_target/nvmf/tcp/testing/test_target.h"

namespace sma::storage_target::nvmf::tcp {
namespace {

using nvme::IoOpcode;
using nvme::Status;
using nvme::tcp::PduType;

constexpr uint32_t kWholeBlocks = 32;  // the largest I/O
constexpr size_t kWholeBytes = size_t{kWholeBlocks} * TestTarget::kBlockSize;

nvme::Command FirstBlocks(IoOpcode opcode) {
  nvme::Command command;
  command.opcode = static_cast<uint8_t>(opcode);
  command.cid = 9;
  command.nsid = 1;
  command.cdw12 = kWholeBlocks - 1;
  command.sgl.length = kWholeBytes;
  return command;
}

void WriteFirstBlocks(TestHost& host, std::byte value) {
  TestHost::Pdu r2t = host.Execute(FirstBlocks(IoOpcode::kWrite));
  ASSERT_EQ(r2t.type(), PduType::kR2t);
  host.SendH2cData(r2t.As<nvme::tcp::R2t>(), 0, std::vector(kWholeBytes, value));
  auto response = host.Receive();
  ASSERT_TRUE(response);
  EXPECT_EQ(response->status(), Status::kSuccess);
}

int CountTorn(const std::vector<std::byte>& data) {
  int torn = 0;
  for (size_t at = 0; at < data.size(); at += TestTarget::kBlockSize) {
    auto block = data.begin() + static_cast<ptrdiff_t>(at);
    if (std::count(block, block + TestTarget::kBlockSize, *block) != TestTarget::kBlockSize) ++torn;
  }
  return torn;
}

// The host reads more than its socket buffer holds, so that sends end within a block; before it
// receives more, the other queue overwrites all blocks.
int ReadSlowlyWhileWriting(TestTarget& target, int reactors, TestHost& reader, TestHost& writer) {
  constexpr int kReads = 100;
  {  // The reads are executed in one round, before the first write.
    std::promise<void> release;
    std::shared_future<void> released(release.get_future());
    for (int i = 0; i < reactors; ++i) target.reactor(i).Post([released] { released.wait(); });
    for (int i = 0; i < kReads; ++i) reader.SendCommand(FirstBlocks(IoOpcode::kRead));
    release.set_value();
    pollfd answered{reader.fd(), POLLIN, 0};
    EXPECT_EQ(::poll(&answered, 1, 10'000), 1);
  }
  int torn = 0;
  for (int i = 0; i < kReads; ++i) {
    WriteFirstBlocks(writer, std::byte(i));
    auto pdu = reader.Receive();
    if (!pdu || pdu->type() != PduType::kC2hData || pdu->data.size() != kWholeBytes) {
      ADD_FAILURE() << "no data of read " << i;
      return torn;
    }
    torn += CountTorn(pdu->data);
  }
  return torn;
}

class WholeBlocksTest : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Reactors, WholeBlocksTest, testing::Values(1, 2));

TEST_P(WholeBlocksTest, ASlowReaderReceivesWholeBlocks) {
  TestTarget target({}, GetParam());
  TestHost admin = target.DialAdmin();
  TestHost reader = target.DialIo();
  TestHost writer = target.DialIo(0, 2);
  const int size = 32768;
  ASSERT_EQ(::setsockopt(reader.fd(), SOL_SOCKET, SO_RCVBUF, &size, sizeof size), 0);
  // The first read makes the reader's reactor the owner of the bdev's memory.
  EXPECT_EQ(reader.Execute(FirstBlocks(IoOpcode::kRead)).data, std::vector<std::byte>(kWholeBytes));
  EXPECT_EQ(ReadSlowlyWhileWriting(target, GetParam(), reader, writer), 0);
  EXPECT_EQ(ReadSlowlyWhileWriting(target, GetParam(), reader, writer), 0);
}

/// A disk in memory that Share() shares with other reactors.
class SharableBdev : public bdev::Bdev {
 public:
  static constexpr std::byte kOld{0x11}, kNew{0x22};

  explicit SharableBdev(Info info) : Bdev(std::move(info)), memory_(kWholeBytes, kOld) {}

  std::string_view module() const override { return "test"; }
  bool Supports(bdev::IoType type) const override { return type == bdev::IoType::kRead; }

  /// Called on the reactor that reads in place. Simulates another reactor in the middle of a write:
  /// the first half of each block is new. A copy would wait until the write has completed, so
  /// CopyOut returns whole new blocks.
  void Share() {
    is_shared_ = true;
    bdev::RevokeInPlace();
    for (size_t at = 0; at < memory_.size(); at += block_size()) {
      std::fill_n(memory_.begin() + static_cast<ptrdiff_t>(at), block_size() / 2, kNew);
    }
  }

 protected:
  std::unique_ptr<bdev::Channel> MakeChannel(Reactor& reactor) override {
    return std::make_unique<Channel>(*this, reactor);
  }

 private:
  struct Channel : bdev::Channel {
    Channel(SharableBdev& its_disk, Reactor& reactor)
        : bdev::Channel(its_disk, reactor), disk(its_disk) {}
    void DoSubmit(bdev::Io& io) override { Complete(io, bdev::IoStatus::kFailed); }
    std::byte* DoAccessInPlace(bdev::IoType type, uint64_t /*lba*/, uint64_t /*count*/) override {
      return type == bdev::IoType::kRead && !disk.is_shared_ ? disk.memory_.data() : nullptr;
    }
    bool DoIsInPlace() const override { return !disk.is_shared_; }
    void DoCopyOut(const std::byte* /*from*/, std::byte* to, size_t size_bytes) override {
      std::fill_n(to, size_bytes, kNew);
    }
    SharableBdev& disk;
  };

  std::vector<std::byte> memory_;
  bool is_shared_ = false;
};

// The reactor processes the command and shares the disk within one task, and sends afterwards.
TEST(SharedDiskTest, BlocksAreCopiedThatWereReadBeforeTheDiskWasShared) {
  TestTarget target;
  SharableBdev* disk = nullptr;
  target.InControl([&] {
    bdev::Bdev::Info info;
    info.name = "sharable";
    info.block_size = TestTarget::kBlockSize;
    info.block_count = kWholeBlocks;
    auto made = std::make_unique<SharableBdev>(info);
    disk = made.get();
    ASSERT_EQ(target.registry().Register(std::move(made)), 0);
  });
  target.Wait([&](auto done) {
    target.subsystem().namespaces().Add({.bdev_name = "sharable", .nsid = 2},
                                        [done](auto) { done(); });
  });
  TestHost admin = target.DialAdmin();
  TestHost reader = target.DialIo();
  nvme::Command read = FirstBlocks(IoOpcode::kRead);
  read.nsid = 2;
  EXPECT_EQ(reader.Execute(read).data, std::vector(kWholeBytes, SharableBdev::kOld));

  QueuePair* queue_pair = nullptr;
  target.InControl([&] {
    Associations& associations = target.subsystem().associations();
    const Controller& controller = *associations.all().at(target.cntlid()).controller;
    queue_pair = associations.FindQueuePair(controller, 1);
  });
  ASSERT_NE(queue_pair, nullptr);
  target.reactor(0).Invoke([&] {
    reader.SendCommand(read);
    queue_pair->ProcessReceived();
    disk->Share();
  });
  auto pdu = reader.Receive();
  ASSERT_TRUE(pdu);
  EXPECT_EQ(CountTorn(pdu->data), 0);
  EXPECT_EQ(pdu->data, std::vector(kWholeBytes, SharableBdev::kNew));
}

}  // namespace
}  // namespace sma::storage_target::nvmf::tcp
