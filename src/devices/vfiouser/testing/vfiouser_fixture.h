// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include "agent/qmp/testing/fake_qemu.h"
#include "agent/spdk/testing/fake_target.h"
#include "devices/vfiouser/vfiouser_manager.h"
#include "sma/outcome.h"

namespace sma::vfiouser {

inline constexpr char kVolume[] = "00000001-1111-4222-8333-444444444444";
inline constexpr char kOther[] = "00000002-1111-4222-8333-444444444444";
inline constexpr char kHandle[] = "nvme:nqn.2016-06.io.spdk:vfiouser-33";
inline constexpr char kNqn[] = "nqn.2016-06.io.spdk:vfiouser-33";
inline constexpr char kName[] = "vfiouser-33";

inline DeviceVolume Volume(const char* uuid, std::string attachment = "") {
  return {.id = *base::Uuid::Parse(uuid), .bdev_name = uuid, .attachment = std::move(attachment)};
}

inline CreateDeviceRequest RequestFor(uint32_t physical_id, uint32_t virtual_id = 0) {
  CreateDeviceRequest request;
  request.mutable_nvme()->set_physical_id(physical_id);
  request.mutable_nvme()->set_virtual_id(virtual_id);
  return request;
}

/// A target, a VM with two buses of 32 slots, and a folder for sockets.
class VfioUserTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string folder = std::filesystem::temp_directory_path() / "sma_vfiouser_XXXXXX";
    folder_ = ::mkdtemp(folder.data());
    target_.AddBdev(kVolume);
    target_.AddBdev(kOther);
    ConnectVm();
    manager_ = MakeManager(true);
    ASSERT_TRUE(manager_->Prepare(context_).ok());
    ASSERT_TRUE(manager_->List(context_).ok());
    auto device = manager_->Describe(RequestFor(33));
    ASSERT_TRUE(device.ok()) << device.status();
    device_ = *device;
    empty_ = target_.Dump();
  }
  ~VfioUserTest() override { std::filesystem::remove_all(folder_); }

  // `connect_wait`: short only for a QEMU that is known not to answer.
  void ConnectVm(std::chrono::nanoseconds connect_wait = std::chrono::seconds(20)) {
    vm_ = std::make_shared<qmp::Client>(
        qmp::ClientOptions{.address = qemu_.address(), .connect_wait = connect_wait});
  }
  // Makes a manager with another client of the VM, which has no session yet.
  void Reconnect(std::chrono::nanoseconds connect_wait = std::chrono::seconds(20)) {
    manager_.reset();
    vm_.reset();
    ConnectVm(connect_wait);
    manager_ = MakeManager(true);
  }
  std::unique_ptr<VfioUserManager> MakeManager(bool plugs) {
    Options options;
    std::shared_ptr<qmp::Client> vm = plugs ? vm_ : nullptr;
    options.buses = qmp::Buses({{.name = "bus0", .vm = vm}, {.name = "bus1", .vm = vm}}, plugs);
    options.socket_folder = folder_;
    options.unplug_wait = std::chrono::milliseconds(300);
    return std::make_unique<VfioUserManager>(target_, std::move(options));
  }

  OutcomeOr<CreatedDevice> Create(const DeviceVolume* volume = nullptr) {
    return manager_->CreateDevice(context_, device_, volume);
  }
  bool FolderExists() const { return std::filesystem::exists(folder_ + "/" + kName); }
  void ExpectNothingLeft() {
    EXPECT_EQ(target_.Dump(), empty_);
    EXPECT_THAT(qemu_.devices(), testing::IsEmpty());
    EXPECT_FALSE(FolderExists());
  }
  // The current session has already received QEMU's greeting, so a new one is opened.
  void BecomeQemu(int major, int minor) {
    qemu_.SetVersion(major, minor);
    Reconnect();
  }
  jsonrpc::Json Subsystem() {
    auto found = target_.Operator("nvmf_get_subsystems", {{"nqn", kNqn}});
    return found.ok() ? (*found)[0] : jsonrpc::Json();
  }

  base::Context context_ = base::Context::WithTimeout(std::chrono::seconds(20));
  spdk::FakeTarget target_;
  qmp::FakeQemu qemu_;
  std::shared_ptr<qmp::Client> vm_;
  std::string folder_;
  std::unique_ptr<VfioUserManager> manager_;
  DeviceSpec device_;
  std::string empty_;
};

}  // namespace sma::vfiouser
