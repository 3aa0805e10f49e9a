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

#include "target/bdev/registry.h"
#include "target/bdev/test_bdev.h"
#include "target/bdev_modules/nvme/initiator/fake_server.h"
#include "target/bdev_modules/nvme/nvme_module.h"
#include "target/reactor/reactor.h"

namespace sma::target::bdev_nvme {

/// An open bdev of a test. Let go by itself when the bdev is removed.
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

/// The module with everything in one thread: its reactors, the test, and the fake remote sides.
class ModuleFixture : public testing::Test {
 protected:
  static constexpr char kNqn[] = "nqn.2016-06.io.spdk:remote0";
  static constexpr char kHostNqn[] = "nqn.2016-06.io.spdk:host0";
  static constexpr std::chrono::seconds kPatience{20};

  // Hooks may use what is gone with the test's own block.
  void TearDown() override {
    server_.hook = nullptr;
    server_.data_hook = nullptr;
    bool stopped = false;
    module_.Stop([&] { stopped = true; });
    EXPECT_TRUE(reactor_->RunUntil([&] { return stopped; }, kPatience));
    RunFor(std::chrono::milliseconds(1));  // what is destroyed by a message
  }

  void RunUntil(const std::function<bool()>& condition) {
    ASSERT_TRUE(reactor_->RunUntil(condition, kPatience));
  }
  /// Lets what is under way come to rest.
  void RunFor(std::chrono::milliseconds time) {
    reactor_->RunUntil([] { return false; }, time);
  }

  /// A few rounds of the loop, however long they take: messages that lead to messages arrive.
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

}  // namespace sma::target::bdev_nvme
