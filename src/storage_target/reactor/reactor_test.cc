// SPDX-License-Identifier: Apache-2.0

#include "storage_target/reactor/reactor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <future>
#include <thread>

namespace sma::storage_target {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;
using testing::ElementsAre;

std::unique_ptr<Reactor> StartReactor() { return Reactor::Start({.name = "test"}); }

struct Pipe {
  Pipe() { EXPECT_EQ(::pipe(fds), 0); }
  ~Pipe() {
    ::close(fds[0]);
    ::close(fds[1]);
  }
  void Write() { EXPECT_EQ(::write(fds[1], "x", 1), 1); }
  int fds[2];
};

struct CountingHandler : FdHandler {
  void OnFdReady(uint32_t events) override {
    ++calls;
    last_events = events;
    if (action) action();
  }
  int calls = 0;
  uint32_t last_events = 0;
  std::function<void()> action;
};

TEST(ReactorTest, PostedTasksRunInOrderInItsThread) {
  auto reactor = StartReactor();
  EXPECT_EQ(Reactor::Current(), nullptr);
  std::vector<int> order;
  Reactor* seen = nullptr;
  for (int i = 0; i < 3; ++i) reactor->Post([&order, i] { order.push_back(i); });
  reactor->Invoke([&] { seen = Reactor::Current(); });
  EXPECT_THAT(order, ElementsAre(0, 1, 2));
  EXPECT_EQ(seen, reactor.get());
  EXPECT_GT(reactor->tid(), 0);
}

TEST(ReactorTest, StopRunsWhatIsQueued) {
  auto reactor = StartReactor();
  bool ran = false;
  reactor->Post([&] { reactor->Post([&] { ran = true; }); });
  reactor->Stop();
  EXPECT_TRUE(ran);
}

TEST(ReactorTest, TasksPostedAfterTheEndAreDropped) {
  auto reactor = StartReactor();
  reactor->Stop();
  auto held = std::make_shared<int>(0);
  reactor->Post([held] { FAIL(); });
  reactor.reset();
  EXPECT_EQ(held.use_count(), 1);
}

TEST(ReactorTest, ManySendersLoseNoMessage) {
  struct Counted : Message {
    std::atomic<int>* count;
  };
  constexpr int kSenders = 4;
  constexpr int kMessages = 5000;
  std::atomic<int> count{0};
  auto reactor = Reactor::Start({.poll = std::chrono::microseconds(0), .name = "test"});
  std::vector<std::vector<Counted>> messages(kSenders, std::vector<Counted>(kMessages));
  std::vector<std::thread> senders;
  for (auto& mine : messages) {
    senders.emplace_back([&] {
      for (Counted& message : mine) {
        message.count = &count;
        message.run = [](Message& self) { ++*static_cast<Counted&>(self).count; };
        reactor->Send(message);
      }
    });
  }
  for (std::thread& sender : senders) sender.join();
  reactor->Invoke([] {});
  EXPECT_EQ(count, kSenders * kMessages);
}

TEST(ReactorTest, PingPongBetweenTwoSleepingReactors) {
  auto a = Reactor::Start({.poll = std::chrono::microseconds(0), .name = "a"});
  auto b = Reactor::Start({.poll = std::chrono::microseconds(0), .name = "b"});
  std::promise<void> finished;
  int left = 2000;
  std::function<void()> bounce = [&] {
    if (--left == 0) {
      finished.set_value();
    } else {
      (Reactor::Current() == a.get() ? b : a)->Post(bounce);
    }
  };
  a->Post(bounce);
  EXPECT_EQ(finished.get_future().wait_for(seconds(30)), std::future_status::ready);
  a->Stop();
  b->Stop();
}

TEST(ReactorTest, WatchReportsReadinessUntilUnwatched) {
  auto reactor = Reactor::ForThisThread({});
  Pipe pipe;
  CountingHandler handler;
  ASSERT_EQ(reactor->Watch(pipe.fds[0], EPOLLIN, &handler), 0);
  EXPECT_EQ(reactor->Watch(pipe.fds[0], EPOLLIN, &handler), -EEXIST);
  EXPECT_EQ(reactor->Watch(-1, EPOLLIN, &handler), -EBADF);
  EXPECT_EQ(reactor->ModifyWatch(pipe.fds[1], EPOLLIN), -ENOENT);
  pipe.Write();
  EXPECT_TRUE(reactor->RunUntil([&] { return handler.calls >= 2; }, seconds(10)));
  EXPECT_EQ(handler.last_events, uint32_t{EPOLLIN});
  reactor->Unwatch(pipe.fds[0]);
  int calls = handler.calls;
  EXPECT_FALSE(reactor->RunUntil([] { return false; }, milliseconds(2)));
  EXPECT_EQ(handler.calls, calls);
}

TEST(ReactorTest, AFetchedEventIsNotDeliveredAfterUnwatch) {
  auto reactor = Reactor::ForThisThread({});
  Pipe a;
  Pipe b;
  CountingHandler on_a;
  CountingHandler on_b;
  // Whichever handler runs first stops watching both descriptors, and watches the other handler's
  // descriptor for a third handler.
  CountingHandler stranger;
  on_a.action = [&] {
    reactor->Unwatch(a.fds[0]);
    reactor->Unwatch(b.fds[0]);
    reactor->Watch(b.fds[0], 0, &stranger);
  };
  on_b.action = [&] {
    reactor->Unwatch(b.fds[0]);
    reactor->Unwatch(a.fds[0]);
    reactor->Watch(a.fds[0], 0, &stranger);
  };
  ASSERT_EQ(reactor->Watch(a.fds[0], EPOLLIN, &on_a), 0);
  ASSERT_EQ(reactor->Watch(b.fds[0], EPOLLIN, &on_b), 0);
  a.Write();
  b.Write();
  EXPECT_TRUE(reactor->RunUntil([&] { return on_a.calls + on_b.calls > 0; }, seconds(10)));
  EXPECT_FALSE(reactor->RunUntil([] { return false; }, milliseconds(2)));
  EXPECT_EQ(on_a.calls + on_b.calls, 1);
  EXPECT_EQ(stranger.calls, 0);
}

TEST(ReactorTest, TimersRunInOrderOfTimeAndMayBeCancelled) {
  auto reactor = Reactor::ForThisThread({});
  std::vector<int> order;
  auto start = steady_clock::now();
  reactor->AddTimer(milliseconds(20), [&] { order.push_back(2); });
  reactor->AddTimer(milliseconds(5), [&] { order.push_back(1); });
  Reactor::TimerId never = reactor->AddTimer(milliseconds(1), [&] { order.push_back(9); });
  EXPECT_NE(never, 0U);
  reactor->CancelTimer(never);
  reactor->CancelTimer(never);
  EXPECT_TRUE(reactor->RunUntil([&] { return order.size() == 2; }, seconds(10)));
  EXPECT_THAT(order, ElementsAre(1, 2));
  EXPECT_GE(steady_clock::now() - start, milliseconds(20));
}

TEST(ReactorTest, ATimerMayCancelAndAddOthers) {
  auto reactor = Reactor::ForThisThread({});
  bool cancelled_ran = false;
  bool added_ran = false;
  Reactor::TimerId other = 0;
  reactor->AddTimer(milliseconds(1), [&] {
    reactor->CancelTimer(other);
    reactor->AddTimer(milliseconds(0), [&] { added_ran = true; });
  });
  other = reactor->AddTimer(milliseconds(1), [&] { cancelled_ran = true; });
  EXPECT_TRUE(reactor->RunUntil([&] { return added_ran; }, seconds(10)));
  EXPECT_FALSE(cancelled_ran);
}

TEST(ReactorTest, DeferredWorkRunsOnceAfterTheEventsOfTheRound) {
  struct Flush : Deferred {
    std::vector<int>* order;
  };
  auto reactor = Reactor::ForThisThread({});
  std::vector<int> order;
  Flush flush;
  flush.order = &order;
  flush.run = [](Deferred& self) { static_cast<Flush&>(self).order->push_back(100); };
  for (int i = 0; i < 2; ++i) {
    reactor->Post([&, i] {
      order.push_back(i);
      reactor->Defer(flush);
    });
  }
  EXPECT_TRUE(reactor->RunUntil([&] { return order.size() >= 3; }, seconds(10)));
  EXPECT_THAT(order, ElementsAre(0, 1, 100));
}

TEST(ReactorTest, DeferredWorkThatSchedulesItselfRunsAgainWithoutSleep) {
  struct Again : Deferred {
    Reactor* reactor;
    int left = 3;
  };
  auto reactor = Reactor::ForThisThread({.poll = std::chrono::microseconds(0)});
  Again again;
  again.reactor = reactor.get();
  again.run = [](Deferred& self) {
    auto& mine = static_cast<Again&>(self);
    if (--mine.left > 0) mine.reactor->Defer(mine);
  };
  reactor->Defer(again);
  EXPECT_TRUE(reactor->RunUntil([&] { return again.left == 0; }, seconds(10)));
}

struct Countable : Deferred {
  Countable(int* count, std::unique_ptr<Countable>* also_destroys = nullptr)
      : runs(count), victim(also_destroys) {
    run = [](Deferred& self) {
      auto& mine = static_cast<Countable&>(self);
      ++*mine.runs;
      if (mine.victim != nullptr) mine.victim->reset();
    };
  }
  int* runs;
  std::unique_ptr<Countable>* victim;
};

TEST(ReactorTest, DeferredWorkThatIsDestroyedOrCancelledDoesNotRun) {
  auto reactor = Reactor::ForThisThread({});
  int runs = 0;
  int runs_of_gone = 0;
  auto destroyed_before = std::make_unique<Countable>(&runs_of_gone);
  auto destroyed_by_other = std::make_unique<Countable>(&runs_of_gone);
  Countable cancelled(&runs_of_gone);
  Countable first(&runs, &destroyed_by_other);
  Countable last(&runs);
  for (Deferred* deferred :
       {static_cast<Deferred*>(destroyed_before.get()), static_cast<Deferred*>(&first),
        static_cast<Deferred*>(&cancelled), static_cast<Deferred*>(destroyed_by_other.get()),
        static_cast<Deferred*>(&last)}) {
    reactor->Defer(*deferred);
  }
  destroyed_before.reset();
  cancelled.Cancel();
  EXPECT_FALSE(cancelled.scheduled());
  EXPECT_TRUE(reactor->RunUntil([&] { return runs == 2; }, seconds(10)));
  EXPECT_EQ(runs_of_gone, 0);
  EXPECT_EQ(destroyed_by_other, nullptr);
}

TEST(ReactorTest, DeferredWorkMayOutliveItsReactor) {
  int runs = 0;
  Countable left(&runs);
  {
    auto reactor = Reactor::ForThisThread({});
    reactor->Defer(left);
  }
  EXPECT_FALSE(left.scheduled());
  EXPECT_EQ(runs, 0);
}

struct TestPoller : Poller {
  bool Poll() override {
    ++polls;
    if (action) action();
    return busy;
  }
  bool PrepareSleep() override {
    ++prepares;
    return may_sleep;
  }
  void AfterSleep() override { ++afters; }
  int polls = 0;
  int prepares = 0;
  int afters = 0;
  bool busy = false;
  bool may_sleep = true;
  std::function<void()> action;
};

TEST(ReactorTest, PollersMustAgreeToEachSleep) {
  auto reactor = Reactor::ForThisThread({.poll = std::chrono::microseconds(0)});
  TestPoller unwilling;
  unwilling.may_sleep = false;
  reactor->AddPoller(&unwilling);
  EXPECT_FALSE(reactor->RunUntil([] { return false; }, milliseconds(5)));
  EXPECT_GT(unwilling.polls, 10);
  EXPECT_EQ(unwilling.prepares, unwilling.afters);
  unwilling.may_sleep = true;
  int polls = unwilling.polls;
  EXPECT_FALSE(reactor->RunUntil([] { return false; }, milliseconds(50)));
  EXPECT_LT(unwilling.polls - polls, 200);
  EXPECT_EQ(unwilling.prepares, unwilling.afters);
}

TEST(ReactorTest, APollerMayRemoveItselfAndABusyOneStarvesNoDescriptor) {
  auto reactor = Reactor::ForThisThread({});
  Pipe pipe;
  CountingHandler handler;
  TestPoller busy;
  busy.busy = true;
  TestPoller leaving;
  leaving.action = [&] { reactor->RemovePoller(&leaving); };
  reactor->AddPoller(&leaving);
  reactor->AddPoller(&busy);
  ASSERT_EQ(reactor->Watch(pipe.fds[0], EPOLLIN, &handler), 0);
  pipe.Write();
  EXPECT_TRUE(reactor->RunUntil([&] { return handler.calls > 0; }, seconds(10)));
  EXPECT_EQ(leaving.polls, 1);
}

uint64_t ThreadCpuMs() {
  rusage usage{};
  ::getrusage(RUSAGE_THREAD, &usage);
  auto ms = [](const timeval& t) {
    return static_cast<uint64_t>(t.tv_sec * 1000 + t.tv_usec / 1000);
  };
  return ms(usage.ru_utime) + ms(usage.ru_stime);
}

TEST(ReactorTest, AnIdleReactorUsesNoProcessorTime) {
  auto reactor = StartReactor();
  uint64_t before = 0;
  uint64_t after = 0;
  reactor->Invoke([&] { before = ThreadCpuMs(); });
  std::promise<void> later;
  reactor->Post([&] {
    reactor->AddTimer(milliseconds(500), [&] {
      after = ThreadCpuMs();
      later.set_value();
    });
  });
  later.get_future().wait();
  EXPECT_LE(after - before, 10U);
  EXPECT_GT(reactor->idle_ns(), 400'000'000U);
}

}  // namespace
}  // namespace sma::storage_target
