// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "storage_target/bdev/testing/test_bdev.h"
#include "storage_target/bdev_modules/iscsi/iscsi_module.h"
#include "storage_target/bdev_modules/iscsi/testing/fake_portal.h"

namespace sma::storage_target::bdev_iscsi {

/// A bdev "is0" of the unit of a FakePortal. Everything runs in the test's thread.
class IscsiFixture : public testing::Test {
 protected:
  void TearDown() override {
    if (registry_.Find("is0") != nullptr) Delete("is0");
  }
  base::ErrnoOr<std::string> Create(const std::string& name, const FakePortal& portal) {
    std::optional<base::ErrnoOr<std::string>> result;
    module_.Create({.name = name, .url = portal.url(), .initiator_iqn = "iqn.2016-06.io.spdk:h"},
                   [&](auto made) { result = std::move(made); });
    RunUntil([&] { return result.has_value(); });
    return *result;
  }
  void Open() {
    auto made = Create("is0", portal_);
    ASSERT_TRUE(made.ok()) << made.error();
    events_.on_remove = [this] { Close(); };
    auto opened = registry_.Open("is0", bdev::Registry::Access::kWrite, &events_);
    ASSERT_TRUE(opened.ok());
    descriptor_ = std::move(*opened);
    channel_ = descriptor_->OpenChannel(*reactor_);
  }
  void Close() {
    channel_.reset();
    descriptor_.reset();
  }
  void Delete(const std::string& name) {
    bool deleted = false;
    ASSERT_EQ(module_.Delete(name, [&] { deleted = true; }), 0);
    RunUntil([&] { return deleted; });
  }
  void RunUntil(const std::function<bool()>& condition) {
    ASSERT_TRUE(reactor_->RunUntil(condition, std::chrono::seconds(20)));
  }
  void RunFor(std::chrono::milliseconds time) {
    reactor_->RunUntil([] { return false; }, time);
  }

  // Submits an I/O that the portal receives but does not answer.
  void SubmitHeld(bdev::Io& io) {
    portal_.hold = true;
    channel_->Submit(io);
    RunUntil([&] { return portal_.io_count == 1; });
  }
  // Checks that the first block was never written.
  void ExpectZeroes() {
    portal_.hold = false;
    bdev::TestIo read(bdev::IoType::kRead, 0, 1, 512);
    EXPECT_EQ(RunIo(*channel_, read), bdev::IoStatus::kOk);
    EXPECT_EQ(read.data[0], std::byte{0});
  }

  std::unique_ptr<Reactor> reactor_ =
      Reactor::ForThisThread({.poll = std::chrono::microseconds(0)});
  bdev::Registry registry_{*reactor_};
  FakePortal portal_{*reactor_};
  IscsiModule module_{registry_};
  bdev::TestEvents events_;
  std::unique_ptr<bdev::Descriptor> descriptor_;
  std::unique_ptr<bdev::Channel> channel_;
};

}  // namespace sma::storage_target::bdev_iscsi
