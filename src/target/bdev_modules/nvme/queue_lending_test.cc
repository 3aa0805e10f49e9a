// A controller that allows fewer I/O queues than there are reactors serves them all.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "target/bdev_modules/nvme/module_fixture.h"

namespace sma::target::bdev_nvme {
namespace {

using bdev::IoStatus;
using bdev::IoType;
using bdev::TestIo;
using initiator::FakeServer;
using namespace std::chrono_literals;

// A channel in another reactor, used by messages.
class FarDisk {
 public:
  FarDisk(bdev::Descriptor& descriptor, Reactor& reactor) : reactor_(reactor) {
    reactor_.Invoke([&] { channel_ = descriptor.OpenChannel(reactor_); });
  }
  ~FarDisk() { Close(); }
  void Close() {
    reactor_.Invoke([&] { channel_.reset(); });
  }
  /// `ended` counts.
  void Submit(TestIo& io) {
    io.then = [this] { ++ended; };
    reactor_.Post([this, &io] { channel_->Submit(io); });
  }
  bool Abort(TestIo& io) {
    bool aborted = false;
    reactor_.Invoke([&] { aborted = channel_->Abort(io); });
    return aborted;
  }
  std::atomic<int> ended{0};

 private:
  Reactor& reactor_;
  std::unique_ptr<bdev::Channel> channel_;
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
  // The first reactor has the only queue; its channels are not even open.
  NvmeModule module_{registry_, {reactors_[0].get(), reactors_[1].get(), reactor_.get()}};
  bdev::TestEvents events_;
  std::unique_ptr<bdev::Descriptor> descriptor_;
  std::vector<std::unique_ptr<FarDisk>> far_;
  bool hold_ = false;
  int ios_ = 0;
};

TEST_F(QueueLendingTest, EveryReactorDoesIo) {
  far_[0]->Close();  // borrowed queues stay connected without a channel of the lender
  for (int round = 0; round < 20; ++round) {
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

TEST_F(QueueLendingTest, DetachEndsLentIo) {
  hold_ = true;
  TestIo write(IoType::kWrite, 5, 1, 512, std::byte{9});
  far_[1]->Submit(write);
  RunUntil([&] { return ios_ == 1; });
  bool detached = false;
  ASSERT_EQ(module_.Detach("nv0", {}, [&] { detached = true; }), 0);
  // As a front end does: it keeps its channel until its I/O has ended.
  RunUntil([&] { return far_[1]->ended == 1; });
  EXPECT_EQ(write.result, IoStatus::kGone);
  far_.clear();
  descriptor_.reset();
  RunUntil([&] { return detached; });
}

}  // namespace
}  // namespace sma::target::bdev_nvme
