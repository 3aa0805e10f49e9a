// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "storage_target/bdev/registry.h"
#include "storage_target/bdev/testing/test_bdev.h"
#include "storage_target/bdev_modules/nvme/initiator/testing/fake_server.h"
#include "storage_target/bdev_modules/nvme/nvme_module.h"
#include "storage_target/reactor/reactor.h"

namespace sma::storage_target::bdev_nvme {

/// A bdev that a test has opened. It is closed when the bdev is removed.
struct TestDisk {
  TestDisk(bdev::Registry& registry, Reactor& reactor, const std::string& name) {
    events.on_remove = [this] { Close(); };
    auto opened = registry.Open(name, bdev::Registry::Access::kWrite, &events);
    EXPECT_TRUE(opened.ok()) << name;
    if (!opened.ok()) return;
    descriptor = std::move(*opened);
    channel = descriptor->OpenChannel(reactor);
  }
  void Close() {
    channel.reset();
    descriptor.reset();
  }

  bdev::TestEvents events;
  std::unique_ptr<bdev::Descriptor> descriptor;
  std::unique_ptr<bdev::Channel> channel;
};

/// A fixture that runs everything on one thread: the module's reactors, the test, and the fake
/// remotes.
class ModuleFixture : public testing::Test {
 protected:
  static constexpr char kNqn[] = "nqn.2016-06.io.spdk:remote0";
  static constexpr char kHostNqn[] = "nqn.2016-06.io.spdk:host0";
  static constexpr std::chrono::seconds kPatience{20};

  // The hooks may refer to objects of the test that no longer exist.
  void TearDown() override {
    server_.hook = nullptr;
    server_.data_hook = nullptr;
    bool stopped = false;
    module_.Stop([&] { stopped = true; });
    EXPECT_TRUE(reactor_->RunUntil([&] { return stopped; }, kPatience));
    RunFor(std::chrono::milliseconds(1));  // deletes objects that are destroyed by messages
  }

  void RunUntil(const std::function<bool()>& condition) {
    ASSERT_TRUE(reactor_->RunUntil(condition, kPatience));
  }
  /// Runs the event loop for this long.
  void RunFor(std::chrono::milliseconds time) {
    reactor_->RunUntil([] { return false; }, time);
  }

  /// Runs the event loop for a few rounds, so that messages that cause further messages are
  /// delivered.
  void Settle() {
    int rounds = 0;
    reactor_->RunUntil([&] { return ++rounds > 10; }, kPatience);
  }

  AttachOptions OptionsFor(const std::string& name, const initiator::FakeServer& server) const {
    AttachOptions options;
    options.name = name;
    options.address = server.address();
    options.subnqn = kNqn;
    options.hostnqn = kHostNqn;
    return options;
  }
  base::ErrnoOr<std::vector<std::string>> Attach(const AttachOptions& options) {
    std::optional<base::ErrnoOr<std::vector<std::string>>> result;
    EXPECT_EQ(module_.Attach(options, [&](auto names) { result = std::move(names); }),
              AttachRefusal::kNone);
    EXPECT_FALSE(result) << "answered before Attach has returned";
    EXPECT_TRUE(reactor_->RunUntil([&] { return result.has_value(); }, kPatience));
    return result ? *result : base::ErrnoOr<std::vector<std::string>>::Error(ETIME);
  }
  void AttachTo(const initiator::FakeServer& server, const std::string& name = "nv0") {
    ASSERT_TRUE(Attach(OptionsFor(name, server)).ok());
  }
  void Detach(const std::string& name, const NvmeModule::DetachFilter& filter = {}) {
    bool done = false;
    ASSERT_EQ(module_.Detach(name, filter, [&] { done = true; }), 0);
    RunUntil([&] { return done; });
  }
  bdev::Bdev* Find(const std::string& name) const { return registry_.Find(name); }
  void SendNamespaceEvent(initiator::FakeServer& server) {
    RunUntil([&] {
      return server.SendEvent(nvme::AsyncEventNotice::kNamespaceAttributeChanged,
                              nvme::LogPage::kChangedNamespaces) > 0;
    });
  }

  std::unique_ptr<Reactor> reactor_ =
      Reactor::ForThisThread({.poll = std::chrono::microseconds(0)});
  bdev::Registry registry_{*reactor_};
  initiator::FakeServer server_{*reactor_};
  NvmeModule module_{registry_, {reactor_.get()}};
};

}  // namespace sma::storage_target::bdev_nvme
