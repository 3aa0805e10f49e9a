// SPDX-License-Identifier: Apache-2.0

#include "agent/core/domain_runner.h"

#include <algorithm>
#include <chrono>
#include <deque>
#include <map>
#include <thread>
#include <utility>

#include "base/mutex.h"

namespace sma::core {
namespace {

using base::MutexLock;
using std::chrono::steady_clock;

// The maximum number of threads that wait for one neighbour.
constexpr int kMaxOfDomain = 2;
// A failure that took longer than this is blamed on the neighbour, not on the object.
constexpr std::chrono::milliseconds kSlow{500};

class Runner {
 public:
  explicit Runner(std::vector<DomainTask> tasks)
      : tasks_(std::move(tasks)), results_(tasks_.size()) {
    for (size_t i = 0; i < tasks_.size(); ++i) domains_[tasks_[i].domain].waiting.push_back(i);
  }

  std::vector<absl::Status> Run(int parallelism) {
    const auto wanted = std::min(tasks_.size(), static_cast<size_t>(std::max(parallelism, 1)));
    std::vector<std::thread> threads;
    for (size_t i = 1; i < wanted; ++i) threads.emplace_back([this] { Work(); });
    Work();
    for (std::thread& thread : threads) thread.join();
    MutexLock lock(mutex_);
    return std::move(results_);
  }

 private:
  struct Domain {
    std::deque<size_t> waiting;
    int running = 0;
    absl::Status down;
  };

  void Work() {
    MutexLock lock(mutex_);
    while (true) {
      auto found = std::find_if(domains_.begin(), domains_.end(), [](const auto& entry) {
        const auto& [name, domain] = entry;
        return !domain.waiting.empty() && (name.empty() || domain.running < kMaxOfDomain);
      });
      if (found == domains_.end()) {
        // The remaining tasks belong to neighbours that already have the maximum number of threads;
        // those threads will run them.
        return;
      }
      Domain& domain = found->second;
      const size_t task = domain.waiting.front();
      domain.waiting.pop_front();
      if (!domain.down.ok()) {
        results_[task] = domain.down;
        continue;
      }
      ++domain.running;
      mutex_.Unlock();
      const auto begin = steady_clock::now();
      absl::Status status = tasks_[task].run();
      const bool was_slow = steady_clock::now() - begin > kSlow;
      mutex_.Lock();
      --domain.running;
      if (!status.ok() && was_slow && !found->first.empty()) domain.down = status;
      results_[task] = std::move(status);
    }
  }

  const std::vector<DomainTask> tasks_;
  base::Mutex mutex_;
  std::map<std::string, Domain> domains_ SMA_GUARDED_BY(mutex_);  // "" is the first
  std::vector<absl::Status> results_ SMA_GUARDED_BY(mutex_);
};

}  // namespace

std::vector<absl::Status> RunByDomain(std::vector<DomainTask> tasks, int parallelism) {
  if (tasks.empty()) return {};
  return Runner(std::move(tasks)).Run(parallelism);
}

}  // namespace sma::core
