// SPDX-License-Identifier: Apache-2.0

#include "storage_target/reactor/hold_point.h"

#ifdef SMA_HOLD_POINTS

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <string>
#include <thread>

#include "storage_target/reactor/reactor.h"

namespace sma::storage_target {
namespace {

struct Plan {
  std::mutex mutex;
  std::condition_variable changed;
  std::string name;  // empty if no point is armed
  int reactor_index = 0;
  bool held = false;
};

std::atomic<bool> is_armed{false};

Plan& ThePlan() {
  static Plan plan;
  return plan;
}

void HoldByFile(std::string_view name, int reactor_index) {
  static const char* const folder = std::getenv("SMA_HOLD_POINTS_DIR");
  if (folder == nullptr) return;
  const std::string path =
      std::string(folder) + "/" + std::string(name) + "." + std::to_string(reactor_index);
  if (::access(path.c_str(), F_OK) != 0) return;
  std::ofstream(path + ".held");
  while (::access(path.c_str(), F_OK) == 0)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

}  // namespace

void HoldPoints::Arm(const char* name, int reactor_index) {
  Plan& plan = ThePlan();
  std::lock_guard lock(plan.mutex);
  plan.name = name;
  plan.reactor_index = reactor_index;
  plan.held = false;
  is_armed = true;
}

bool HoldPoints::WaitUntilHeld() {
  Plan& plan = ThePlan();
  std::unique_lock lock(plan.mutex);
  return plan.changed.wait_for(lock, std::chrono::seconds(10), [&] { return plan.held; });
}

void HoldPoints::Release() {
  Plan& plan = ThePlan();
  std::lock_guard lock(plan.mutex);
  plan.name.clear();
  is_armed = false;
  plan.changed.notify_all();
}

void HoldPoints::Reach(std::string_view name) {
  const Reactor* reactor = Reactor::Current();
  if (reactor == nullptr) return;
  const int index = reactor->options().index;
  HoldByFile(name, index);
  if (!is_armed) return;
  Plan& plan = ThePlan();
  std::unique_lock lock(plan.mutex);
  if (plan.name != name || plan.reactor_index != index) return;
  plan.held = true;
  plan.changed.notify_all();
  plan.changed.wait(lock, [&] { return plan.name.empty(); });
}

}  // namespace sma::storage_target

#endif
