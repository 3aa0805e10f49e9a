// SPDX-License-Identifier: Apache-2.0

#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <cstdlib>
#include <iostream>
#include <map>
#include <random>
#include <thread>

#include "absl/strings/str_join.h"
#include "worlds/random_worlds.h"

namespace sma::worlds {
namespace {

std::string Variable(const char* name, const std::string& fallback) {
  const char* value = std::getenv(name);
  return value == nullptr ? fallback : value;
}

// Runs the steps in SMA_WORLDS_SCRIPT, for debugging.
TEST(Worlds, Script) {
  const std::string script = Variable("SMA_WORLDS_SCRIPT", "");
  if (script.empty()) GTEST_SKIP() << "SMA_WORLDS_SCRIPT is not set";
  WorldOptions options;
  options.has_machine = Variable("SMA_WORLDS_MACHINE", "") != "";
  options.sim.discovery_lag = std::stoi(Variable("SMA_WORLDS_LAG", "0"));
  spdlog::set_level(spdlog::level::info);
  World world(options);
  world.Run(script);
  world.Finish();
  for (const std::string& line : world.target().log()) std::cout << "  " << line << "\n";
  for (const std::string& problem : world.problems()) ADD_FAILURE() << problem;
}

// Runs random worlds in several threads. For each kind of problem, one world is reduced and
// printed.
class RandomRun {
 public:
  RandomRun(const Risks& risks, const std::string& seconds) : risks_(risks) {
    // By default each run uses the same worlds, so that failures are caused by changes; "random"
    // tests other worlds.
    const std::string seed = Variable("SMA_WORLDS_SEED", "1");
    first_ = seed == "random" ? std::random_device{}() : std::stoull(seed);
    next_ = first_;
    const uint64_t count = std::stoull(Variable("SMA_WORLDS_COUNT", "0"));
    if (count != 0) last_ = first_ + count;
    const auto time = std::chrono::seconds(std::stoi(Variable("SMA_WORLDS_SECONDS", seconds)));
    end_ = count != 0 ? base::TimePoint::max() : std::chrono::steady_clock::now() + time;
    trace_time_ = std::chrono::milliseconds(std::stoi(Variable("SMA_WORLDS_TRACE", "600")));
  }

  void Run() {
    std::cout << "first seed " << first_ << std::endl;
    std::vector<std::thread> threads;
    for (int i = 0; i < std::stoi(Variable("SMA_WORLDS_THREADS", "8")); ++i) {
      threads.emplace_back([this] { Work(); });
    }
    for (std::thread& thread : threads) thread.join();
    std::cout << next_ - first_ << " worlds" << std::endl;
    for (const auto& [kind, number] : kinds_) std::cout << number << " × " << kind << std::endl;
  }

 private:
  void Work() {
    while (std::chrono::steady_clock::now() < end_) {
      const uint64_t seed = next_++;
      if (seed >= last_) return;
      RandomWorld world = MakeRandomWorld(seed, risks_);
      const auto begin = std::chrono::steady_clock::now();
      const std::vector<std::string> problems = RunWorld(world.options, world.steps);
      const auto took = std::chrono::steady_clock::now() - begin;
      if (std::getenv("SMA_WORLDS_TRACE") != nullptr && took >= trace_time_) {
        base::MutexLock lock(mutex_);
        std::cout << took / std::chrono::milliseconds(1)
                  << " ms: " << absl::StrJoin(world.steps, "; ") << std::endl;
      }
      if (!problems.empty()) Report(world, problems);
    }
  }

  void Report(const RandomWorld& world, const std::vector<std::string>& problems) {
    {
      base::MutexLock lock(mutex_);
      if (kinds_[KindOf(problems.front())]++ > 0) return;
    }
    const std::vector<std::string> steps =
        Shrink(world.options, world.steps, KindOf(problems.front()));
    base::MutexLock lock(mutex_);
    ADD_FAILURE() << "seed " << world.seed << (world.options.has_machine ? " with a machine" : "")
                  << ", discovery lag " << world.options.sim.discovery_lag << ": "
                  << absl::StrJoin(steps, "; ") << "\n  " << absl::StrJoin(problems, "\n  ")
                  << "\n  all: " << absl::StrJoin(world.steps, "; ");
  }

  const Risks risks_;
  uint64_t first_ = 0;
  uint64_t last_ = UINT64_MAX;
  std::atomic<uint64_t> next_;
  base::TimePoint end_;
  std::chrono::milliseconds trace_time_{};  // worlds that take at least as long are printed
  base::Mutex mutex_;
  std::map<std::string, int> kinds_ SMA_GUARDED_BY(mutex_);
};

void RunRandomWorlds(const Risks& risks, const std::string& seconds) {
  spdlog::set_level(spdlog::level::off);
  RandomRun(risks, seconds).Run();
}

constexpr char kSeconds[] = "20";

TEST(Worlds, Random) { RunRandomWorlds({}, kSeconds); }

TEST(Worlds, DISABLED_RandomWithAllRisks) { RunRandomWorlds(AllRisks(), kSeconds); }

}  // namespace
}  // namespace sma::worlds
