// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>

#include "storage_target/bdev/testing/test_bdev.h"
#include "storage_target/nvmf/testing/target_thread.h"
#include "storage_target/nvmf/vfio_user/vfio_user_transport.h"

// Helpers for tests.

namespace sma::storage_target::nvmf::vfio_user {

/// A target with a subsystem that has one malloc bdev, and a VFIOUSER listener in its own folder.
class TestTarget : public TargetThread {
 public:
  static constexpr char kNqn[] = "nqn.2016-06.io.spdk:vfiouser-test";

  // The poll time is long enough that tests find the reactor awake even on a loaded system.
  explicit TestTarget(Options options = {}) : TargetThread(1, std::chrono::milliseconds(2)) {
    std::string folder = std::filesystem::temp_directory_path() / "vfiouser_XXXXXX";
    folder_ = ::mkdtemp(folder.data());
    address_ = {"VFIOUSER", nvme::AddressFamily::kNone, folder_, ""};
    Begin(
        kNqn, [&](Target& target) { return std::make_unique<VfioUserTransport>(target, options); },
        [&] { EXPECT_EQ(Listen(), 0); });
  }
  ~TestTarget() {
    End();
    std::filesystem::remove_all(folder_);
  }

  int Listen() { return subsystem_->AddListener(*target_->FindTransport("vfiouser"), address_); }

  /// Adds a namespace whose bdev is controlled by `medium`.
  static constexpr uint32_t kMediumNsid = 2;
  void AddMedium() {
    control_->Invoke([this] {
      bdev::Bdev::Info info;
      info.name = "medium";
      info.block_size = kBlockSize;
      info.block_count = kBlockCount;
      EXPECT_EQ(registry_->Register(std::make_unique<bdev::TestBdev>(info, medium)), 0);
    });
    Wait([&](auto done) { AddNamespace("medium", kMediumNsid, done); });
  }
  /// Once the namespace has been added, this must be used only on the reactor io().
  bdev::TestModule medium;

  Reactor& io() { return *io_[0]; }
  Target& target() { return *target_; }
  Subsystem& subsystem() { return *subsystem_; }
  bdev::Registry& registry() { return *registry_; }
  const TransportAddress& address() const { return address_; }
  std::string socket_path() const { return folder_ + "/cntrl"; }

 private:
  std::string folder_;
  TransportAddress address_;
};

}  // namespace sma::storage_target::nvmf::vfio_user
