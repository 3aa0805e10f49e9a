// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/iscsi/host_look_up.h"

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>

namespace sma::storage_target::bdev_iscsi {
namespace {

constexpr std::chrono::seconds kPatience(60);

class HostLookUpTest : public testing::Test {
 protected:
  std::unique_ptr<Reactor> reactor_ = Reactor::ForThisThread({.index = 0});
  int calls_ = 0;
  int error_ = -1;
  std::string ip_;
  std::unique_ptr<HostLookUp> look_up_;

  void LookUp(const std::string& host) {
    look_up_ =
        std::make_unique<HostLookUp>(*reactor_, host, [this](int error, const std::string& ip) {
          ++calls_;
          error_ = error;
          ip_ = ip;
          look_up_.reset();
        });
  }
};

TEST_F(HostLookUpTest, ResolvesThisHost) {
  LookUp("localhost");
  EXPECT_EQ(calls_, 0);  // not before the event loop runs
  ASSERT_TRUE(reactor_->RunUntil([this] { return calls_ > 0; }, kPatience));
  EXPECT_EQ(error_, 0);
  EXPECT_TRUE(ip_ == "127.0.0.1" || ip_ == "::1") << ip_;
}

TEST_F(HostLookUpTest, ReportsAnUnknownHost) {
  LookUp("no-such-host.invalid");
  ASSERT_TRUE(reactor_->RunUntil([this] { return calls_ > 0; }, kPatience));
  EXPECT_NE(error_, 0);
}

TEST_F(HostLookUpTest, CanBeCancelled) {
  LookUp("localhost");
  look_up_.reset();
  LookUp("localhost");
  ASSERT_TRUE(reactor_->RunUntil([this] { return calls_ > 0; }, kPatience));
  EXPECT_EQ(calls_, 1);
}

}  // namespace
}  // namespace sma::storage_target::bdev_iscsi
