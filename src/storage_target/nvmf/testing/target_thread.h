// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "storage_target/bdev/registry.h"
#include "storage_target/bdev_modules/malloc/malloc_bdev.h"
#include "storage_target/nvmf/target.h"
#include "storage_target/reactor/reactor.h"

namespace sma::storage_target::nvmf {

/// A target with one transport and a subsystem, which every host may use and which has one malloc
/// bdev as namespace 1. Its control reactor runs in a separate thread, so that tests may block.
class TargetThread {
 public:
  static constexpr uint32_t kBlockSize = 4096;
  static constexpr uint64_t kBlockCount = 4096;

  /// Runs `act(done)` on the control reactor and waits until it has called `done`.
  template <typename F>
  void Wait(F act) {
    auto promise = std::make_shared<std::promise<void>>();
    auto future = promise->get_future();
    control_->Post([&act, promise] { act([promise] { promise->set_value(); }); });
    ASSERT_EQ(future.wait_for(std::chrono::seconds(10)), std::future_status::ready);
  }
  template <typename F>
  void InControl(F act) {
    control_->Invoke(act);
  }

  /// Adds a malloc bdev. Called on the control reactor.
  void AddDisk(const std::string& name) {
    bdev::Bdev::Info info;
    info.name = name;
    info.block_size = kBlockSize;
    info.block_count = kBlockCount;
    EXPECT_EQ(registry_->Register(*bdev_malloc::MakeMallocBdev(info)), 0);
  }

 protected:
  TargetThread(int reactor_count, std::chrono::microseconds poll) {
    control_ =
        Reactor::Start({.index = -1, .poll = std::chrono::microseconds(0), .name = "control"});
    for (int i = 0; i < reactor_count; ++i)
      io_.push_back(Reactor::Start({.index = i, .poll = poll, .name = "io"}));
  }
  ~TargetThread() = default;

  /// Shuts the target down. To be called by the destructor of a derived class, because bdevs may
  /// refer to its members.
  void End() {
    Wait([&](auto done) { target_->Shutdown(done); });
    std::vector<bdev::Bdev*> bdevs;
    control_->Invoke([&] {
      target_.reset();
      bdevs = registry_->List();
    });
    for (bdev::Bdev* bdev : bdevs) Wait([&](auto done) { registry_->Unregister(*bdev, done); });
    control_->Invoke([&] { registry_.reset(); });
    for (auto& reactor : io_) reactor->Stop();
    control_->Stop();
  }

  /// Creates the transport with `make(target)` and the subsystem `nqn`, calls `listen`, and adds
  /// the namespace.
  template <typename Make, typename Listen>
  void Begin(const char* nqn, Make make, Listen listen) {
    std::vector<Reactor*> io;
    for (const auto& reactor : io_) io.push_back(reactor.get());
    control_->Invoke([&] {
      registry_ = std::make_unique<bdev::Registry>(*control_);
      target_ = std::make_unique<Target>(*control_, io, *registry_);
      EXPECT_EQ(target_->AddTransport(make(*target_)), 0);
      AddDisk("disk");
      SubsystemOptions subsystem;
      subsystem.nqn = nqn;
      subsystem.allow_any_host = true;
      subsystem_ = *target_->CreateSubsystem(subsystem);
      listen();
    });
    Wait([&](auto done) { AddNamespace("disk", 1, done); });
  }

  /// Adds a namespace, checks its NSID, and calls `done`. Called on the control reactor.
  template <typename Done>
  void AddNamespace(const char* bdev_name, uint32_t expected_nsid, Done done) {
    subsystem_->namespaces().Add({.bdev_name = bdev_name}, [expected_nsid, done](auto nsid) {
      EXPECT_EQ(*nsid, expected_nsid);
      done();
    });
  }

  std::unique_ptr<Reactor> control_;
  std::vector<std::unique_ptr<Reactor>> io_;
  std::unique_ptr<bdev::Registry> registry_;
  std::unique_ptr<Target> target_;
  Subsystem* subsystem_ = nullptr;
};

}  // namespace sma::storage_target::nvmf
