// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "agent/qmp/testing/fake_qemu.h"
#include "agent/spdk/testing/fake_target.h"
#include "devices/vhost_blk/vhost_blk_manager.h"

namespace sma::vhost_blk {

inline constexpr char kVolume[] = "00000001-1111-4222-8333-444444444444";
inline constexpr char kOtherVolume[] = "00000002-1111-4222-8333-444444444444";

/// A fake target and a fake QEMU with a manager between them, for tests. Physical ids 0 to 31 are
/// on bus0, 32 and 33 on bus1.
class VhostBlkFixture : public testing::Test {
 protected:
  void SetUp() override {
    target_.AddBdev(kVolume);
    target_.AddBdev(kOtherVolume);
    qmp::ClientOptions client;
    client.address = qemu_.address();
    client.connect_wait = std::chrono::milliseconds(50);
    client.retry_pause = std::chrono::milliseconds(5);
    vm_ = std::make_shared<qmp::Client>(client);
    options_.buses = qmp::Buses({{"bus0", 32, vm_}, {"bus1", 2, vm_}}, true);
    options_.socket_folder = "/run/vhost";
    options_.unplug_wait = std::chrono::milliseconds(300);
    options_.busy_wait = std::chrono::milliseconds(100);
    StartManager();
    empty_ = target_.Dump();
    target_.ResetCounts();
  }

  void StartManager() {
    manager_ = std::make_unique<VhostBlkManager>(target_, options_);
    ASSERT_TRUE(manager_->List(context_).ok());
  }

  static CreateDeviceRequest Request(uint32_t physical_id) {
    CreateDeviceRequest request;
    request.mutable_virtio_blk()->set_physical_id(physical_id);
    return request;
  }
  DeviceSpec Device(uint32_t physical_id = 0) {
    auto device = manager_->Describe(Request(physical_id));
    EXPECT_TRUE(device.ok()) << device.status();
    return *std::move(device);
  }
  static DeviceVolume Volume(const char* uuid = kVolume) {
    return {.id = *base::Uuid::Parse(uuid), .bdev_name = uuid, .attachment = ""};
  }
  Outcome Create(uint32_t physical_id = 0, const DeviceVolume& volume = Volume()) {
    return manager_->CreateDevice(context_, Device(physical_id), &volume).outcome();
  }
  Outcome Delete(uint32_t physical_id = 0) {
    return manager_->DeleteDevice(context_, Device(physical_id), {});
  }
  /// Ends the VM, and waits until its client has noticed.
  void KillQemu() {
    qemu_.Kill();
    while (vm_->WaitConnected(base::Context::WithTimeout(std::chrono::milliseconds(5))).ok()) {
    }
  }
  void Operator(const char* method, jsonrpc::Json params) {
    auto answer = target_.Operator(method, std::move(params));
    ASSERT_TRUE(answer.ok()) << method << answer.status();
  }
  /// Returns the bdev of a controller; null if either does not exist.
  jsonrpc::Json BdevOf(const char* controller) {
    auto found = target_.Operator("vhost_get_controllers", {{"name", controller}});
    return found.ok() ? (*found)[0]["backend_specific"]["block"]["bdev"] : jsonrpc::Json();
  }

  base::Context context_ = base::Context::WithTimeout(std::chrono::seconds(60));
  spdk::FakeTarget target_;
  qmp::FakeQemu qemu_;
  std::shared_ptr<qmp::Client> vm_;
  Options options_;
  std::unique_ptr<VhostBlkManager> manager_;
  std::string empty_;
};

}  // namespace sma::vhost_blk
