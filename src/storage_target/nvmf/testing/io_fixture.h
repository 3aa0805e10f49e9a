// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "storage_target/bdev/testing/test_bdev.h"
#include "storage_target/nvmf/testing/fake_queue_pair.h"
#include "storage_target/nvmf/testing/fake_transport.h"

namespace sma::storage_target::nvmf {

/// A host with an admin queue and one I/O queue, connected to a subsystem whose bdev completes I/O
/// when the test requests it. Uses a single reactor, which runs on the test's thread.
class IoFixture : public testing::Test {
 protected:
  static constexpr char kNqn[] = "nqn.2016-06.io.spdk:test";
  static constexpr auto kLong = std::chrono::seconds(10);

  explicit IoFixture(uint32_t retired_nsid_timeout_ms = 60'000,
                     uint32_t reconnect_timeout_ms = 200) {
    module_.native_types.push_back(bdev::IoType::kUnmap);
    AddDisk("disk", module_);
    EXPECT_EQ(target_.AddTransport(std::make_unique<FakeTransport>()), 0);
    SubsystemOptions options;
    options.nqn = kNqn;
    options.allow_any_host = true;
    options.reconnect_timeout_ms = options.held_write_timeout_ms = reconnect_timeout_ms;
    options.retired_nsid_timeout_ms = retired_nsid_timeout_ms;
    subsystem_ = *target_.CreateSubsystem(options);
    EXPECT_EQ(subsystem_->AddListener(*target_.FindTransport("fake"), {"FAKE", {}, "here", ""}), 0);
    subsystem_->namespaces().Add({.bdev_name = "disk"}, [](auto nsid) { EXPECT_EQ(*nsid, 1u); });
    admin_ = MakeQueuePair();
    admin_->ConnectAdmin(kNqn);
    io_ = MakeQueuePair();
    EXPECT_EQ(io_->Connect(kNqn, 1, admin_->controller().id()), nvme::Status::kSuccess);
  }
  ~IoFixture() override {
    CompletePending();
    for (auto& queue_pair : queue_pairs_) queue_pair->Drop();
    Await([&](auto done) { target_.Shutdown(done); });
    for (bdev::Bdev* bdev : registry_.List())
      Await([&](auto done) { registry_.Unregister(*bdev, done); });
  }

  template <typename F>
  void Await(F act) {
    bool done = false;
    act([&] { done = true; });
    EXPECT_TRUE(RunUntil([&] { return done; }));
  }
  bool RunUntil(const std::function<bool()>& done) { return reactor_->RunUntil(done, kLong); }
  /// Runs a few rounds of the event loop, so that posted tasks have run.
  void RunPosted() {
    for (int i = 0; i < 5; ++i) Await([&](auto done) { reactor_->Post(done); });
  }
  void AddDisk(const std::string& name, bdev::TestModule& module, bdev::Bdev::Info info = {}) {
    info.name = name;
    info.block_size = 512;
    info.block_count = 1000;
    EXPECT_EQ(registry_.Register(std::make_unique<bdev::TestBdev>(info, module)), 0);
  }
  FakeQueuePair* MakeQueuePair() {
    queue_pairs_.push_back(std::make_unique<FakeQueuePair>(target_, *reactor_));
    return queue_pairs_.back().get();
  }
  void CompletePending() {
    if (module_.pending.empty()) return;
    auto& channel = static_cast<bdev::TestChannel&>(*module_.pending.front()->channel);
    channel.CompletePending(bdev::IoStatus::kOk);
  }
  std::shared_ptr<FakeQueuePair::FakeRequest> BeginWrite(uint16_t cid) {
    nvme::Command command;
    command.opcode = static_cast<uint8_t>(nvme::IoOpcode::kWrite);
    command.nsid = 1;
    command.cid = cid;
    return io_->Begin(command, 512);
  }
  nvme::Completion Abort(uint16_t queue_id, uint16_t cid) {
    nvme::Command command;
    command.opcode = static_cast<uint8_t>(nvme::AdminOpcode::kAbort);
    command.cdw10 = uint32_t{cid} << 16 | queue_id;
    return admin_->Run(command)->completion;
  }
  /// Sets a limit that allows one write to complete, and no other for a minute.
  void LimitDisk() {
    registry_.SetLimits(*registry_.Find("disk"), {.w_bytes_per_sec = 8});
    RunPosted();
  }

  bdev::TestModule module_;
  std::unique_ptr<Reactor> reactor_ =
      Reactor::ForThisThread({.index = 0, .poll = std::chrono::microseconds(0)});
  bdev::Registry registry_{*reactor_};
  Target target_{*reactor_, {reactor_.get()}, registry_};
  Subsystem* subsystem_ = nullptr;
  std::vector<std::unique_ptr<FakeQueuePair>> queue_pairs_;
  FakeQueuePair* admin_ = nullptr;
  FakeQueuePair* io_ = nullptr;
};

}  // namespace sma::storage_target::nvmf
