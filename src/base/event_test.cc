// SPDX-License-Identifier: Apache-2.0

#include "base/event.h"

#include <gtest/gtest.h>

#include <memory>
#include <thread>
#include <vector>

namespace sma::base {
namespace {

using std::chrono::steady_clock;

TEST(EventTest, SetBeforeAndAfterTheWaitBegins) {
  Event before;
  before.Set();
  before.Wait();
  EXPECT_TRUE(before.WaitOnce(steady_clock::now()));

  Event after;
  int written = 0;
  std::thread setter([&] {
    written = 7;
    after.Set();
  });
  after.Wait();
  EXPECT_EQ(written, 7);
  setter.join();
}

TEST(EventTest, WaitsNoLongerThanAskedFor) {
  Event event;
  const auto until = steady_clock::now() + std::chrono::milliseconds(5);
  EXPECT_FALSE(event.WaitOnce(until));
  EXPECT_GE(steady_clock::now(), until);
}

TEST(EventTest, APokeEndsOneWaitAndIsKeptUntilThen) {
  Event event;
  event.Poke();
  EXPECT_FALSE(event.WaitOnce(steady_clock::time_point::max()));
  EXPECT_FALSE(event.WaitOnce(steady_clock::now()));  // the poke was consumed
  std::thread poker([&] { event.Poke(); });
  EXPECT_FALSE(event.WaitOnce(steady_clock::time_point::max()));
  poker.join();
}

// The setter and the waiter run concurrently many times. Each time, the waiter destroys the event
// immediately, so that a sanitizer reports a setter that still uses it.
TEST(EventTest, TheWaiterMayDestroyIt) {
  constexpr int kRounds = 2000;
  std::vector<std::unique_ptr<Event>> events;
  for (int i = 0; i < kRounds; ++i) events.push_back(std::make_unique<Event>());
  std::vector<Event*> to_set;
  for (auto& event : events) to_set.push_back(event.get());
  std::thread setter([&] {
    for (Event* event : to_set) event->Set();
  });
  for (auto& event : events) {
    event->Wait();
    event.reset();
  }
  setter.join();
}

}  // namespace
}  // namespace sma::base
