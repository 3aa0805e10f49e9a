// SPDX-License-Identifier: Apache-2.0

// Tests that a controller that allows fewer I/O queues than there are reactors serves all reactors.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <vector>

#include "storage_target/bdev_modules/nvme/testing/module_fixture.h"

namespace sma::storage_target::bdev_nvme {
namespace {

using bdev::IoStatus;
using bdev::IoType;
using bdev::TestIo;
using initiator::FakeServer;
using namespace std::chrono_literals;

// A channel in another reactor, which is used through messages.
class FarDisk {
 public:
  FarDisk(bdev::Descriptor& descriptor, Reactor& reactor) : reactor_(reactor) {
    reactor_.Invoke([&] { channel_ = descriptor.OpenChannel(reactor_); });
  }
  ~FarDisk() { Close(); }
  void Close() {
    reactor_.Invoke([&] { channel_.reset(); });
  }
  /// Increments `ended` on completion.
  void Submit(TestIo& io) {
    io.then = [this] { ++ended; };
    reactor_.Post([this, &io] { channel_->Submit(io); });
  }
  /// Submits `count` reads of one block, all into the same memory.
  void SubmitMany(size_t count) {
    many_ = std::vector<Many>(count);
    reactor_.Invoke([&] {
      for (Many& io : many_) {
        io.disk = this;
        io.block_count = 1;
        io.iovs = &block_iov_;
        io.iov_count = 1;
        io.done = [](bdev::Io& done, IoStatus) { ++static_cast<Many&>(done).disk->ended; };
        channel_->Submit(io);
      }
    });
  }
  void AbortMany(size_t begin, size_t end) {
    reactor_.Invoke([&] {
      for (size_t i = begin; i < end; ++i) channel_->Abort(many_[i]);
    });
  }
  void AbortUnlessEnded(TestIo& io) {
    reactor_.Invoke([&] {
      if (!io.result) channel_->Abort(io);
    });
  }
  bool Abort(TestIo& io) {
    bool aborted = false;
    reactor_.Invoke([&] { aborted = channel_->Abort(io); });
    return aborted;
  }
  std::atomic<size_t> ended{0};

 private:
  struct Many : bdev::Io {
    FarDisk* disk = nullptr;
  };
  Reactor& reactor_;
  std::unique_ptr<bdev::Channel> channel_;
  std::vector<Many> many_;
  std::array<std::byte, 512> block_{};
  iovec block_iov_{block_.data(), block_.size()};
};

class QueueLendingTest : public testing::Test {
 protected:
  void SetUp() override {
    server_.AddNamespace(1, 64);
    server_.io_queue_limit = 1;
    server_.hook = [this](uint16_t queue_id, const nvme::Command&) {
      std::optional<FakeServer::Reply> reply;
      if (queue_id != 0) ++ios_;
      if (queue_id != 0 && hold_) reply = FakeServer::Reply{.held = true};
      return reply;
    };
    AttachOptions options;
    options.name = "nv0";
    options.address = server_.address();
    options.subnqn = "nqn.2016-06.io.spdk:remote0";
    options.reconnect = ReconnectOptions{-1, 1, 0};
    bool attached = false;
    ASSERT_EQ(module_.Attach(options, [&](auto names) { attached = names.ok(); }),
              AttachRefusal::kNone);
    RunUntil([&] { return attached; });
    auto opened = registry_.Open("nv0n1", bdev::Registry::Access::kWrite, &events_);
    ASSERT_TRUE(opened.ok());
    descriptor_ = std::move(*opened);
    for (auto& far : reactors_) far_.push_back(std::make_unique<FarDisk>(*descriptor_, *far));
  }
  void TearDown() override {
    far_.clear();
    descriptor_.reset();
    bool stopped = false;
    module_.Stop([&] { stopped = true; });
    RunUntil([&] { return stopped; });
    reactor_->RunUntil([] { return false; }, 5ms);
    for (auto& far : reactors_) far->Invoke([] {});
  }
  void RunUntil(const std::function<bool()>& condition) {
    ASSERT_TRUE(reactor_->RunUntil(condition, 20s));
  }

  std::unique_ptr<Reactor> reactor_ =
      Reactor::ForThisThread({.poll = std::chrono::microseconds(0)});
  std::vector<std::unique_ptr<Reactor>> reactors_ = [] {
    std::vector<std::unique_ptr<Reactor>> made;
    for (int i = 0; i < 2; ++i) made.push_back(Reactor::Start({.index = i}));
    return made;
  }();
  bdev::Registry registry_{*reactor_};
  FakeServer server_{*reactor_};
  // The first reactor has the only queue, although no channel is open there.
  NvmeModule module_{registry_, {reactors_[0].get(), reactors_[1].get(), reactor_.get()}};
  bdev::TestEvents events_;
  std::unique_ptr<bdev::Descriptor> descriptor_;
  std::vector<std::unique_ptr<FarDisk>> far_;
  bool hold_ = false;
  int ios_ = 0;
};

TEST_F(QueueLendingTest, EveryReactorDoesIo) {
  far_[0]->Close();  // borrowed queues stay connected without a channel of the lender
  for (size_t round = 0; round < 20; ++round) {
    TestIo write(IoType::kWrite, 5, 1, 512, std::byte(round + 1));
    far_[1]->Submit(write);
    RunUntil([&] { return far_[1]->ended == round + 1; });
    EXPECT_EQ(write.result, IoStatus::kOk);
    EXPECT_EQ(server_.namespaces[1].content[5 * 512], static_cast<char>(round + 1));
  }
  auto here = descriptor_->OpenChannel(*reactor_);
  TestIo read(IoType::kRead, 5, 1, 512);
  here->Submit(read);
  RunUntil([&] { return read.result.has_value(); });
  EXPECT_EQ(read.result, IoStatus::kOk);
  EXPECT_EQ(read.data[0], std::byte{20});
  // The admin queue and the only I/O queue that the controller allows.
  EXPECT_EQ(server_.connection_count(), 2U);
}

TEST_F(QueueLendingTest, LentIoOutlivesALossOfTheConnection) {
  hold_ = true;
  TestIo write(IoType::kWrite, 5, 1, 512, std::byte{9});
  far_[1]->Submit(write);
  RunUntil([&] { return ios_ == 1; });
  hold_ = false;
  server_.DropConnections();
  RunUntil([&] { return far_[1]->ended == 1; });
  EXPECT_EQ(write.result, IoStatus::kOk);
  EXPECT_EQ(server_.namespaces[1].content[5 * 512], 9);
}

TEST_F(QueueLendingTest, LentIoIsAborted) {
  hold_ = true;
  TestIo write(IoType::kWrite, 5, 1, 512, std::byte{9});
  far_[1]->Submit(write);
  RunUntil([&] { return ios_ == 1; });
  EXPECT_FALSE(far_[1]->Abort(write));
  RunUntil([&] { return far_[1]->ended == 1; });
  EXPECT_EQ(write.result, IoStatus::kAborted);
  EXPECT_EQ(server_.ReleaseHeld(), 0);
}

// Aborts more I/Os than the lender's queue pair has command identifiers, as when the hosts of a
// gateway time out. Aborting those at the end of the list must not be slower than aborting those at
// the beginning.
TEST_F(QueueLendingTest, ManyLentIosAreTakenBackQuickly) {
  constexpr size_t kMany = 60'000;
  constexpr size_t kPart = 1000;
  hold_ = true;
  far_[1]->SubmitMany(kMany);
  RunUntil([&] { return ios_ > 0; });
  auto abort = [&](size_t begin, size_t end) {
    far_[1]->AbortMany(begin, end);
    uint64_t cpu_ns = 0;
    reactors_[0]->Invoke([&] { cpu_ns = bdev::ThreadCpuNs(); });
    return cpu_ns;
  };
  const uint64_t start_ns = abort(0, 0);
  const uint64_t late_ns = abort(kMany - kPart, kMany);
  const uint64_t early_ns = abort(kPart, 2 * kPart);
  EXPECT_LT(late_ns - start_ns, 10 * (early_ns - late_ns) + 5'000'000);
  abort(2 * kPart, kMany - kPart);
  abort(0, kPart);
  server_.hook = nullptr;
  server_.DropConnections();  // the connections of the I/Os that were sent
  RunUntil([&] { return far_[1]->ended == kMany; });
}

// An I/O that ends while its abort is on the way to the lender is kept until the abort has arrived.
TEST_F(QueueLendingTest, AnIoThatEndsBeforeItsAbortArrivesEndsOnce) {
  for (size_t i = 0; i < 200; ++i) {
    auto write = std::make_unique<TestIo>(IoType::kWrite, 5, 1, 512, std::byte{9});
    far_[1]->Submit(*write);
    if (i % 2 == 0) {
      reactor_->RunUntil([] { return false; }, std::chrono::microseconds(i * 5));
    }
    if (far_[1]->ended == i) far_[1]->AbortUnlessEnded(*write);
    RunUntil([&] { return far_[1]->ended == i + 1; });
    EXPECT_TRUE(write->result == IoStatus::kOk || write->result == IoStatus::kAborted);
  }
}

TEST_F(QueueLendingTest, DetachEndsLentIo) {
  hold_ = true;
  TestIo write(IoType::kWrite, 5, 1, 512, std::byte{9});
  far_[1]->Submit(write);
  RunUntil([&] { return ios_ == 1; });
  bool detached = false;
  ASSERT_EQ(module_.Detach("nv0", {}, [&] { detached = true; }), 0);
  // Like a front end, this keeps its channel until its I/O has ended.
  RunUntil([&] { return far_[1]->ended == 1; });
  EXPECT_EQ(write.result, IoStatus::kGone);
  far_.clear();
  descriptor_.reset();
  RunUntil([&] { return detached; });
}

}  // namespace
}  // namespace sma::storage_target::bdev_nvme
