#include "target/bdev/limiter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "target/bdev/test_bdev.h"

namespace sma::target::bdev {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr uint32_t kBlockSize = 512;
constexpr uint64_t kNsPerMs = 1'000'000;
constexpr uint64_t kStartNs = 1000 * kNsPerMs;

Io MakeIo(IoType type, uint64_t block_count) {
  Io io;
  io.type = type;
  io.block_count = block_count;
  return io;
}

TEST(LimiterTest, EachOperationMovesTheClock) {
  Limiter limiter;
  limiter.Set({.rw_ios_per_sec = 1000}, kStartNs);
  Io read = MakeIo(IoType::kRead, 1);
  // What may be caught up with goes at once.
  for (int i = 0; i < 51; ++i) EXPECT_EQ(limiter.Reserve(read, kBlockSize, kStartNs), kStartNs);
  for (uint64_t i = 1; i < 1000; ++i) {
    EXPECT_EQ(limiter.Reserve(read, kBlockSize, kStartNs), kStartNs + i * kNsPerMs);
  }
  // Nothing was wanted for a second: no more is caught up with than before.
  uint64_t later = kStartNs + 3000 * kNsPerMs;
  for (int i = 0; i < 51; ++i) EXPECT_EQ(limiter.Reserve(read, kBlockSize, later), later);
  EXPECT_EQ(limiter.Reserve(read, kBlockSize, later), later + kNsPerMs);
}

TEST(LimiterTest, BytesCountByDirectionAndTheSlowestClockDecides) {
  Limiter limiter;
  limiter.Set({.rw_ios_per_sec = 1'000'000, .r_bytes_per_sec = 512'000, .w_bytes_per_sec = 0},
              kStartNs);
  Io read = MakeIo(IoType::kRead, 100);
  EXPECT_EQ(limiter.Reserve(read, kBlockSize, kStartNs), kStartNs);
  EXPECT_EQ(limiter.Reserve(read, kBlockSize, kStartNs), kStartNs + 50 * kNsPerMs);
  EXPECT_EQ(limiter.Reserve(MakeIo(IoType::kWrite, 100), kBlockSize, kStartNs), kStartNs);
  EXPECT_EQ(limiter.Reserve(MakeIo(IoType::kCompare, 1), kBlockSize, kStartNs),
            kStartNs + 150 * kNsPerMs);
  EXPECT_EQ(limiter.Reserve(MakeIo(IoType::kUnmap, 1 << 20), kBlockSize, kStartNs), kStartNs);
}

TEST(LimiterTest, OtherLimitsStartAnew) {
  Limiter limiter;
  limiter.Set({.w_bytes_per_sec = 1}, kStartNs);
  Io write = MakeIo(IoType::kWrite, 1);
  limiter.Reserve(write, kBlockSize, kStartNs);
  EXPECT_GT(limiter.Reserve(write, kBlockSize, kStartNs), kStartNs + 100'000 * kNsPerMs);
  limiter.Set({.w_bytes_per_sec = 512'000}, kStartNs);
  EXPECT_EQ(limiter.Reserve(write, kBlockSize, kStartNs), kStartNs);
}

// A disk that does everything at once, from any reactor.
class FastBdev : public Bdev {
 public:
  using Bdev::Bdev;
  std::string_view module() const override { return "fast"; }
  bool Supports(IoType) const override { return true; }

 protected:
  class DoneChannel : public Channel {
   public:
    DoneChannel(Bdev& bdev, Reactor& reactor) : Channel(bdev, reactor) {}

   private:
    void DoSubmit(Io& io) override { Complete(io, IoStatus::kOk); }
  };
  std::unique_ptr<Channel> MakeChannel(Reactor& reactor) override {
    return std::make_unique<DoneChannel>(*this, reactor);
  }
};

// Keeps `depth` I/Os going on a channel of one reactor.
class Load {
 public:
  Load(Descriptor& descriptor, Reactor& reactor, IoType type, size_t depth) : reactor_(reactor) {
    reactor_.Invoke([&] {
      channel_ = descriptor.OpenChannel(reactor_);
      active_ = depth;
      for (size_t i = 0; i < depth; ++i) {
        TestIo& io = *ios_.emplace_back(std::make_unique<TestIo>(type, 0, 8, kBlockSize));
        io.then = [this, &io] {
          done_.fetch_add(1, std::memory_order_relaxed);
          // Not from here: the disk would do it at once, and this would be called again, without
          // end.
          if (stopping_) {
            --active_;
          } else {
            reactor_.Post([this, &io] { channel_->Submit(io); });
          }
        };
        channel_->Submit(io);
      }
    });
  }
  ~Load() {
    stopping_ = true;
    while (active_ != 0) std::this_thread::yield();
    reactor_.Invoke([this] { channel_.reset(); });
  }
  uint64_t done() const { return done_.load(std::memory_order_relaxed); }

 private:
  Reactor& reactor_;
  std::unique_ptr<Channel> channel_;
  std::vector<std::unique_ptr<TestIo>> ios_;
  std::atomic<uint64_t> done_{0};
  std::atomic<bool> stopping_{false};
  std::atomic<size_t> active_{0};
};

class LimitedBdevTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(registry_.Register(std::make_unique<FastBdev>(
                  Bdev::Info{.name = "F", .block_size = kBlockSize, .block_count = 1000})),
              0);
    descriptor_ = std::move(*registry_.Open("F", Registry::Access::kWrite, nullptr));
  }
  void TearDown() override {
    a_->Stop();
    b_->Stop();
    control_->RunUntil([] { return false; }, milliseconds(1));
  }
  void SetLimits(const Limits& limits) { registry_.SetLimits(*registry_.Find("F"), limits); }
  // What `count` grows by in a second.
  double PerSecond(const std::function<uint64_t()>& count) {
    uint64_t before = count();
    auto start = std::chrono::steady_clock::now();
    control_->RunUntil([] { return false; }, seconds(1));
    std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
    return static_cast<double>(count() - before) / passed.count();
  }

  std::unique_ptr<Reactor> control_ = Reactor::ForThisThread({});
  std::unique_ptr<Reactor> a_ = Reactor::Start({.name = "a"});
  std::unique_ptr<Reactor> b_ = Reactor::Start({.name = "b"});
  Registry registry_{*control_};
  std::unique_ptr<Descriptor> descriptor_;
};

TEST_F(LimitedBdevTest, TwoReactorsShareALimit) {
  SetLimits({.rw_ios_per_sec = 8000});
  Load on_a(*descriptor_, *a_, IoType::kRead, 16);
  Load on_b(*descriptor_, *b_, IoType::kWrite, 16);
  PerSecond([&] { return on_a.done(); });  // past the start
  uint64_t b_before = on_b.done();
  uint64_t a_before = on_a.done();
  double rate = PerSecond([&] { return on_a.done() + on_b.done(); });
  EXPECT_NEAR(rate, 8000, 8000 * 0.03);
  EXPECT_NEAR(static_cast<double>(on_a.done() - a_before),
              static_cast<double>(on_b.done() - b_before), 1000);
}

TEST_F(LimitedBdevTest, ReadsAndWritesHaveLimitsOfTheirOwn) {
  SetLimits({.r_bytes_per_sec = 3000 * 8 * kBlockSize, .w_bytes_per_sec = 1000 * 8 * kBlockSize});
  Load reads(*descriptor_, *a_, IoType::kRead, 8);
  Load writes(*descriptor_, *a_, IoType::kWrite, 8);
  PerSecond([&] { return writes.done(); });
  uint64_t reads_before = reads.done();
  EXPECT_NEAR(PerSecond([&] { return writes.done(); }), 1000, 30);
  EXPECT_NEAR(static_cast<double>(reads.done() - reads_before), 3000, 100);
}

TEST_F(LimitedBdevTest, ChangedUnderLoadAndOffAgain) {
  SetLimits({.rw_bytes_per_sec = 1});
  Load load(*descriptor_, *a_, IoType::kWrite, 8);
  uint64_t before = load.done();
  EXPECT_LT(before, 8U);
  SetLimits({.rw_ios_per_sec = 4000});
  EXPECT_TRUE(control_->RunUntil([&] { return load.done() > before + 100; }, seconds(10)));
  EXPECT_NEAR(PerSecond([&] { return load.done(); }), 4000, 4000 * 0.03);
  SetLimits({});
  EXPECT_TRUE(control_->RunUntil([&] { return load.done() > before + 50'000; }, seconds(30)));
}

// An I/O waits at all times; limits are set every 20 ms, which is when it asks anew.
TEST(LimiterTest, LimitsThatAreSetOverAndOverGiveNoNewCredit) {
  Limiter limiter;
  Io read = MakeIo(IoType::kRead, 1);
  uint64_t count = 0;
  uint64_t due_ns = 0;
  for (uint64_t ms = 0; ms < 1000; ++ms) {
    const uint64_t now_ns = kStartNs + ms * kNsPerMs;
    if (ms % 20 == 0) {
      limiter.Set({.rw_ios_per_sec = 1000 + ms / 20 % 2}, now_ns);
      due_ns = 0;
    }
    while (true) {
      if (due_ns == 0) due_ns = limiter.Reserve(read, kBlockSize, now_ns);
      if (due_ns > now_ns) break;
      ++count;
      due_ns = 0;
    }
  }
  // The credit of the first 50 ms, and no more than one I/O for each change.
  EXPECT_LE(count, 1100U);
  EXPECT_GE(count, 1000U);
}

TEST(LimiterTest, WhatWasAbortedDoesNotStandBeforeWhatComesLater) {
  Limiter limiter;
  limiter.Set({.rw_ios_per_sec = 10, .w_bytes_per_sec = 5120}, kStartNs);
  Io write = MakeIo(IoType::kWrite, 1);
  limiter.Reserve(write, kBlockSize, kStartNs);
  for (int i = 0; i < 40; ++i) limiter.Reserve(write, kBlockSize, kStartNs);
  EXPECT_GT(limiter.Reserve(write, kBlockSize, kStartNs), kStartNs + 3900 * kNsPerMs);
  for (int i = 0; i < 41; ++i) limiter.Cancel(write, kBlockSize);
  EXPECT_EQ(limiter.Reserve(write, kBlockSize, kStartNs), kStartNs + 50 * kNsPerMs);
  // Of another limit than what was reserved by: never before now.
  limiter.Set({.rw_ios_per_sec = 10}, kStartNs);
  limiter.Cancel(write, kBlockSize);
  EXPECT_EQ(limiter.Reserve(write, kBlockSize, kStartNs), kStartNs);
}

}  // namespace
}  // namespace sma::target::bdev
