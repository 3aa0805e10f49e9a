// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "storage_target/bdev/registry.h"
#include "storage_target/bdev_modules/malloc/malloc_bdev.h"
#include "storage_target/reactor/reactor.h"
#include "storage_target/vhost_user/controller_table.h"

// For tests: reactors, malloc bdevs and a table of controllers, as in sma-target.

namespace sma::storage_target::vhost_user {

/// Waits for `condition`. Returns false if it is not true within ten seconds.
template <typename Condition>
bool WaitUntil(Condition condition) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::yield();
  }
  return true;
}

class TestTarget {
 public:
  static constexpr uint64_t kDiskBytes = 64 << 20;

  explicit TestTarget(int reactor_count = 2) {
    std::string folder = std::filesystem::temp_directory_path() / "vhost_XXXXXX";
    folder_ = ::mkdtemp(folder.data());
    control_ =
        Reactor::Start({.index = -1, .poll = std::chrono::microseconds(0), .name = "control"});
    std::vector<Reactor*> reactors;
    for (int i = 0; i < reactor_count; ++i) {
      reactors_.push_back(Reactor::Start({.index = i, .name = "io"}));
      reactors.push_back(reactors_.back().get());
    }
    control_->Invoke([&] {
      registry_ = std::make_unique<bdev::Registry>(*control_);
      table_ = std::make_unique<ControllerTable>(*registry_, reactors, folder_);
    });
  }

  ~TestTarget() {
    if (table_) StopTable();
    // Bdevs are removed when the control reactor knows that the other reactors have released their
    // channels.
    control_->Invoke([this] { registry_.reset(); });
    for (auto& reactor : reactors_) reactor->Stop();
    control_->Stop();
    std::filesystem::remove_all(folder_);
  }

  /// Ends all sessions and removes the controllers, as at the end of the program.
  void StopTable() {
    std::promise<void> closed;
    control_->Post([&] { table_->Close([&] { closed.set_value(); }); });
    closed.get_future().wait();
    for (auto& reactor : reactors_) reactor->Invoke([] {});
    control_->Invoke([this] { table_.reset(); });
  }

  /// Adds a malloc bdev.
  void AddDisk(const std::string& name, uint32_t block_size = 512, base::Uuid uuid = {}) {
    Run([&](bdev::Registry& registry, ControllerTable&) {
      auto bdev = bdev_malloc::MakeMallocBdev({.name = name,
                                               .uuid = uuid,
                                               .block_size = block_size,
                                               .block_count = kDiskBytes / block_size});
      ASSERT_TRUE(bdev.ok());
      ASSERT_EQ(registry.Register(*std::move(bdev)), 0);
    });
  }

  void AddBdev(std::unique_ptr<bdev::Bdev> bdev) {
    Run([&](bdev::Registry& registry, ControllerTable&) {
      ASSERT_EQ(registry.Register(std::move(bdev)), 0);
    });
  }

  void RemoveDisk(const std::string& name) {
    std::promise<void> gone;
    control_->Post(
        [&] { registry_->Unregister(*registry_->Find(name), [&] { gone.set_value(); }); });
    gone.get_future().wait();
  }

  int Create(const ControllerTable::Params& params) {
    int error = -1;
    Run([&](bdev::Registry&, ControllerTable& table) { error = table.Create(params); });
    return error;
  }

  int Delete(const std::string& name) {
    int error = -1;
    Run([&](bdev::Registry&, ControllerTable& table) { error = table.Delete(name); });
    return error;
  }

  /// Returns how long the control reactor has slept.
  uint64_t ControlIdleNs() const { return control_->idle_ns(); }

  size_t SessionCount(const std::string& name) {
    size_t count = 0;
    Run([&](bdev::Registry&, ControllerTable& table) {
      count = table.Find(name)->sessions().size();
    });
    return count;
  }

  bool WaitForSessions(const std::string& name, size_t count) {
    return WaitUntil([&] { return SessionCount(name) == count; });
  }

  /// Return the number of running vrings, and of their outstanding requests, in the only session of
  /// a controller.
  uint32_t RunningVrings(const std::string& name) {
    uint32_t count = 0;
    Run([&](bdev::Registry&, ControllerTable& table) {
      count = table.Find(name)->sessions().front()->running_vrings();
    });
    return count;
  }
  uint32_t OutstandingRequests(const std::string& name) {
    uint32_t count = 0;
    Run([&](bdev::Registry&, ControllerTable& table) {
      count = table.Find(name)->sessions().front()->outstanding_requests();
    });
    return count;
  }
  void EndSessions(const std::string& name) {
    Run([&](bdev::Registry&, ControllerTable& table) {
      for (const auto& session : table.Find(name)->sessions()) session->End("the test ends it");
    });
  }

  /// Calls `task` on the control reactor and waits for it.
  template <typename Task>
  void Run(Task task) {
    control_->Invoke([&] { task(*registry_, *table_); });
  }

  /// Posts `task` to the first I/O reactor.
  void PostToReactor(std::function<void()> task) { reactors_.front()->Post(std::move(task)); }
  /// Calls `task` in the first I/O reactor and waits for it.
  void RunInReactor(const std::function<void()>& task) { reactors_.front()->Invoke(task); }

  std::string SocketPath(const std::string& name) const { return folder_ + "/" + name; }
  const std::string& folder() const { return folder_; }

 private:
  std::string folder_;
  std::unique_ptr<Reactor> control_;
  std::vector<std::unique_ptr<Reactor>> reactors_;
  std::unique_ptr<bdev::Registry> registry_;
  std::unique_ptr<ControllerTable> table_;
};

}  // namespace sma::storage_target::vhost_user
