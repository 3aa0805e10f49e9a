// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev/limiter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "base/sanitizer.h"
#include "storage_target/bdev/testing/test_bdev.h"

namespace sma::storage_target::bdev {
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

uint64_t Reserve(Limiter& limiter, IoType type, uint64_t block_count, uint64_t now_ns) {
  Io io = MakeIo(type, block_count);
  return limiter.Reserve(io, kBlockSize, now_ns);
}

TEST(LimiterTest, EachOperationMovesTheClock) {
  Limiter limiter;
  limiter.Set({.rw_ios_per_sec = 1000}, kStartNs);
  Io read = MakeIo(IoType::kRead, 1);
  // I/O within the burst allowance may start immediately.
  for (int i = 0; i < 51; ++i) EXPECT_EQ(limiter.Reserve(read, kBlockSize, kStartNs), kStartNs);
  for (uint64_t i = 1; i < 1000; ++i) {
    EXPECT_EQ(limiter.Reserve(read, kBlockSize, kStartNs), kStartNs + i * kNsPerMs);
  }
  // After an idle second the burst allowance is no larger than before.
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
  EXPECT_EQ(Reserve(limiter, IoType::kWrite, 100, kStartNs), kStartNs);
  EXPECT_EQ(Reserve(limiter, IoType::kCompare, 1, kStartNs), kStartNs + 150 * kNsPerMs);
  EXPECT_EQ(Reserve(limiter, IoType::kUnmap, 1 << 20, kStartNs), kStartNs);
}

TEST(LimiterTest, WhatHasStartedCountsForTheChangedLimit) {
  Limiter limiter;
  limiter.Set({.w_bytes_per_sec = 1}, kStartNs);
  Io write = MakeIo(IoType::kWrite, 1);
  EXPECT_EQ(limiter.Reserve(write, kBlockSize, kStartNs), kStartNs);
  EXPECT_GT(limiter.Reserve(write, kBlockSize, kStartNs), kStartNs + 100'000 * kNsPerMs);
  limiter.Set({.w_bytes_per_sec = 51'200}, kStartNs);
  limiter.Cancel(write, kBlockSize);
  const uint64_t due_ns = limiter.Reserve(write, kBlockSize, kStartNs);
  EXPECT_GT(due_ns, kStartNs + 9 * kNsPerMs);  // the first write takes 10 ms at this rate
  EXPECT_LE(due_ns, kStartNs + 10 * kNsPerMs);
  // A limit that is removed is forgotten.
  limiter.Set({}, kStartNs);
  limiter.Set({.w_bytes_per_sec = 1}, kStartNs);
  EXPECT_EQ(limiter.Reserve(write, kBlockSize, kStartNs), kStartNs);
}

// A reservation that was made before there was this limit gives nothing back to it.
TEST(LimiterTest, CancelTurnsBackOnlyTheLimitsOfTheReservation) {
  Limiter limiter;
  limiter.Set({.rw_ios_per_sec = 1}, kStartNs);
  Io first = MakeIo(IoType::kWrite, 100);
  Io second = MakeIo(IoType::kWrite, 100);
  limiter.Reserve(first, kBlockSize, kStartNs);
  limiter.Reserve(second, kBlockSize, kStartNs);
  limiter.Set({.w_bytes_per_sec = 512'000}, kStartNs);
  EXPECT_EQ(Reserve(limiter, IoType::kWrite, 200, kStartNs), kStartNs);
  limiter.Cancel(second, kBlockSize);
  EXPECT_GE(Reserve(limiter, IoType::kWrite, 1, kStartNs), kStartNs + 150 * kNsPerMs);
}

// The time is passed as an argument, so the result is exact regardless of the threads' speed.
TEST(LimiterTest, TwoThreadsGetDifferentTurns) {
  constexpr size_t kEach = 20'000;
  Limiter limiter;
  limiter.Set({.rw_ios_per_sec = 1000}, kStartNs);
  std::vector<uint64_t> due[2];
  std::vector<std::thread> threads;
  for (std::vector<uint64_t>& mine : due) {
    threads.emplace_back([&limiter, &mine] {
      Io read = MakeIo(IoType::kRead, 1);
      for (size_t i = 0; i < kEach; ++i)
        mine.push_back(limiter.Reserve(read, kBlockSize, kStartNs));
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& mine : due) EXPECT_TRUE(std::is_sorted(mine.begin(), mine.end()));
  std::vector<uint64_t> all = due[0];
  all.insert(all.end(), due[1].begin(), due[1].end());
  std::sort(all.begin(), all.end());
  // The burst of 50 ms is due at once, then one each millisecond.
  for (size_t i = 0; i < all.size(); ++i) {
    ASSERT_EQ(all[i], kStartNs + (i < 51 ? 0 : (i - 50) * kNsPerMs)) << i;
  }
}

uint64_t NowNs() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<uint64_t>(std::chrono::nanoseconds(now).count());
}

// Keeps `depth` I/Os in flight on one reactor's channel.
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
          // Does not submit from here: the disk completes synchronously, so this would recurse
          // endlessly.
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
    ASSERT_EQ(registry_.Register(std::make_unique<InstantBdev>(
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
  // Submits one I/O of 8 blocks in `reactor` and returns true if it completes at once.
  bool PassesAtOnce(Reactor& reactor, IoType type) {
    bool at_once = false;
    reactor.Invoke([&] {
      auto channel = descriptor_->OpenChannel(reactor);
      TestIo io(type, 0, 8, kBlockSize);
      channel->Submit(io);
      at_once = io.result.has_value();
      if (!at_once) {
        EXPECT_TRUE(channel->Abort(io));
      }
    });
    return at_once;
  }

  std::unique_ptr<Reactor> control_ = Reactor::ForThisThread({});
  std::unique_ptr<Reactor> a_ = Reactor::Start({.name = "a"});
  std::unique_ptr<Reactor> b_ = Reactor::Start({.name = "b"});
  Registry registry_{*control_};
  std::unique_ptr<Descriptor> descriptor_;
};

// 8 bytes per second: the first I/O uses the budget of 512 seconds.
TEST_F(LimitedBdevTest, TwoReactorsShareALimit) {
  for (Reactor* first : {a_.get(), b_.get()}) {
    Reactor& second = first == a_.get() ? *b_ : *a_;
    SetLimits({});
    SetLimits({.rw_bytes_per_sec = 8});
    EXPECT_TRUE(PassesAtOnce(*first, IoType::kRead));
    EXPECT_FALSE(PassesAtOnce(second, IoType::kWrite));
    EXPECT_FALSE(PassesAtOnce(*first, IoType::kRead));
  }
}

TEST_F(LimitedBdevTest, ReadsAndWritesHaveSeparateLimits) {
  SetLimits({.r_bytes_per_sec = 8, .w_bytes_per_sec = 8});
  EXPECT_TRUE(PassesAtOnce(*a_, IoType::kRead));
  EXPECT_FALSE(PassesAtOnce(*a_, IoType::kRead));
  EXPECT_TRUE(PassesAtOnce(*a_, IoType::kWrite));
  EXPECT_FALSE(PassesAtOnce(*a_, IoType::kWrite));
  SetLimits({.r_bytes_per_sec = 8});
  EXPECT_FALSE(PassesAtOnce(*b_, IoType::kRead));  // the first read still counts
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(PassesAtOnce(*b_, IoType::kWrite));
}

TEST_F(LimitedBdevTest, LimitsAreChangedAndRemovedUnderLoad) {
  constexpr uint64_t kPerSec = 4000;
  SetLimits({.rw_bytes_per_sec = 1});
  Load load(*descriptor_, *a_, IoType::kWrite, 8);
  EXPECT_LE(load.done(), 1U);
  const uint64_t start_ns = NowNs();
  SetLimits({.rw_ios_per_sec = kPerSec});
  EXPECT_TRUE(control_->RunUntil([&] { return load.done() > 1000; }, seconds(30)));
  const uint64_t done = load.done();
  const uint64_t passed_ns = NowNs() - start_ns + Limiter::kMaxCreditNs;
  EXPECT_LE(done, passed_ns * kPerSec / 1'000'000'000 + 2);  // and the one before the change
  SetLimits({});
  EXPECT_TRUE(control_->RunUntil([&] { return load.done() > done + 50'000; }, seconds(30)));
}

// At 4096 bytes per second, the first I/O uses the budget of one second, and so does each other.
TEST_F(LimitedBdevTest, AbortedIoDoesNotDelayLaterIo) {
  SetLimits({.rw_bytes_per_sec = 4096});
  std::unique_ptr<Channel> channel = descriptor_->OpenChannel(*control_);
  TestIo first(IoType::kRead, 0, 8, kBlockSize);
  channel->Submit(first);
  EXPECT_TRUE(first.result.has_value());
  std::vector<std::unique_ptr<TestIo>> held;
  for (int i = 0; i < 1000; ++i) {
    channel->Submit(*held.emplace_back(std::make_unique<TestIo>(IoType::kRead, 0, 8, kBlockSize)));
  }
  for (auto& io : held) EXPECT_TRUE(channel->Abort(*io));
  TestIo next(IoType::kRead, 0, 8, kBlockSize);
  channel->Submit(next);
  EXPECT_FALSE(next.result.has_value());
  EXPECT_TRUE(control_->RunUntil([&] { return next.result.has_value(); }, seconds(10)));
}

// The waiting I/O is neither counted twice nor forgotten when the limits change.
TEST_F(LimitedBdevTest, ChangedLimitsGiveNoNewCredit) {
  constexpr uint64_t kPerSec = 4096 * 20;
  SetLimits({.rw_bytes_per_sec = kPerSec});
  Load load(*descriptor_, *a_, IoType::kRead, 16);
  const uint64_t start_ns = NowNs();
  for (uint64_t i = 1; NowNs() - start_ns < 500 * kNsPerMs; ++i) {
    SetLimits({.rw_bytes_per_sec = kPerSec + i % 2});
    control_->RunUntil([] { return false; }, milliseconds(5));
  }
  const uint64_t done = load.done();
  const uint64_t passed_ns = NowNs() - start_ns + Limiter::kMaxCreditNs;
  EXPECT_LE(done, passed_ns * 20 / 1'000'000'000 + 2);
  EXPECT_GE(done, 5U);
  SetLimits({});
}

TEST_F(LimitedBdevTest, ManyWaitingIosDoNotDelayNewIo) {
  constexpr size_t kCount = 60'000;
  constexpr size_t kPart = 1000;
  static size_t done;
  done = 0;
  SetLimits({.rw_ios_per_sec = 1});
  std::unique_ptr<Channel> channel = descriptor_->OpenChannel(*control_);
  std::vector<Io> ios(kCount);
  auto submit = [&](size_t begin, size_t end) {
    const uint64_t start_ns = ThreadCpuNs();
    for (size_t i = begin; i < end; ++i) {
      ios[i].block_count = 1;
      ios[i].done = [](Io&, IoStatus) { ++done; };
      channel->Submit(ios[i]);
    }
    return ThreadCpuNs() - start_ns;
  };
  const uint64_t first_ns = submit(0, kPart);
  submit(kPart, kCount - kPart);
  const uint64_t last_ns = submit(kCount - kPart, kCount);
  EXPECT_LT(last_ns, 10 * first_ns + 5 * kNsPerMs);
  SetLimits({});
  EXPECT_TRUE(control_->RunUntil([&] { return done == kCount; }, seconds(30)));
}

// At least one I/O is always waiting, and the limits are set every 20 ms, which makes it reserve
// again.
TEST_F(LimitedBdevTest, ManyThatWaitTakeLittleTimeOfTheReactor) {
  constexpr size_t kMany = 120'000;
  constexpr uint64_t kWatchNs = 500 * kNsPerMs;
  SetLimits({.rw_ios_per_sec = 1000});
  std::unique_ptr<Channel> channel = descriptor_->OpenChannel(*control_);
  std::vector<std::unique_ptr<Io>> many(kMany);
  size_t ended = 0;
  static size_t* count = nullptr;
  count = &ended;
  for (auto& io : many) {
    io = std::make_unique<Io>(MakeIo(IoType::kRead, 1));
    io->done = [](Io&, IoStatus) { ++*count; };
    channel->Submit(*io);
  }
  const uint64_t start_ns = ThreadCpuNs();
  control_->RunUntil([] { return false; }, std::chrono::nanoseconds(kWatchNs));
  // A few percent without sanitizers.
#ifdef SMA_HAS_SANITIZER
  constexpr uint64_t kMostNs = kWatchNs * 9 / 10;
#else
  constexpr uint64_t kMostNs = kWatchNs / 2;
#endif
  EXPECT_LT(ThreadCpuNs() - start_ns, kMostNs);
  EXPECT_GT(ended, 100U);  // nevertheless
  for (auto& io : many) channel->Abort(*io);
  EXPECT_EQ(channel->outstanding(), 0U);
}

// Many waiting I/Os of 100 ms each, and a change every 20 ms, which makes them reserve again.
TEST(LimiterTest, LimitsThatAreSetOverAndOverGiveNoNewCredit) {
  Limiter limiter;
  constexpr uint64_t kBlocks = 200;
  std::array<Io, 16> ios;
  std::array<uint64_t, 16> due_ns{};
  uint64_t count = 0;
  for (uint64_t ms = 0; ms < 10'000; ++ms) {
    const uint64_t now_ns = kStartNs + ms * kNsPerMs;
    if (ms % 20 == 0) {
      limiter.Set({.rw_bytes_per_sec = kBlocks * kBlockSize * (10 + ms / 20 % 2)}, now_ns);
      for (size_t i = 0; i < ios.size(); ++i) {
        if (due_ns[i] != 0) limiter.Cancel(ios[i], kBlockSize);
        ios[i] = MakeIo(IoType::kRead, kBlocks);
        due_ns[i] = 0;
      }
    }
    for (size_t i = 0; i < ios.size(); ++i) {
      if (due_ns[i] == 0) due_ns[i] = limiter.Reserve(ios[i], kBlockSize, now_ns);
      if (due_ns[i] > now_ns) continue;
      ++count;
      due_ns[i] = 0;
    }
  }
  EXPECT_LE(count, 110U);  // ten per second at one limit, eleven at the other
  EXPECT_GE(count, 100U);
}

TEST(LimiterTest, ALimitThatIsSetAgainGivesNoNewCredit) {
  Limiter limiter;
  Io read = MakeIo(IoType::kRead, 1);
  for (uint64_t i = 0; i < 100; ++i) {
    limiter.Set({.rw_ios_per_sec = 100}, kStartNs);
    const uint64_t after_burst_ms = i < 5 ? 0 : (i - 5) * 10;
    EXPECT_EQ(limiter.Reserve(read, kBlockSize, kStartNs),
              kStartNs + (i < 6 ? 0 : after_burst_ms * kNsPerMs))
        << i;
  }
}

TEST(LimiterTest, AbortedIoDoesNotDelayLaterIo) {
  Limiter limiter;
  limiter.Set({.rw_ios_per_sec = 10, .w_bytes_per_sec = 5120}, kStartNs);
  Io write = MakeIo(IoType::kWrite, 1);
  limiter.Reserve(write, kBlockSize, kStartNs);
  for (int i = 0; i < 40; ++i) limiter.Reserve(write, kBlockSize, kStartNs);
  EXPECT_GT(limiter.Reserve(write, kBlockSize, kStartNs), kStartNs + 3900 * kNsPerMs);
  for (int i = 0; i < 41; ++i) limiter.Cancel(write, kBlockSize);
  EXPECT_EQ(limiter.Reserve(write, kBlockSize, kStartNs), kStartNs + 50 * kNsPerMs);
  // The limit of bytes, under which the cancelled reservation was made, no longer exists.
  limiter.Set({.rw_ios_per_sec = 10}, kStartNs);
  limiter.Cancel(write, kBlockSize);
  EXPECT_EQ(limiter.Reserve(write, kBlockSize, kStartNs), kStartNs + 50 * kNsPerMs);
}

}  // namespace
}  // namespace sma::storage_target::bdev
