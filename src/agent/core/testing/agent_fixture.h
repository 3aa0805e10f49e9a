// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "agent/core/agent_core.h"
#include "agent/record/testing/memory_store.h"
#include "agent/spdk/testing/fake_target.h"
#include "devices/nvmf_tcp/nvmf_tcp_manager.h"

namespace sma::core {

inline std::string VolumeUuid(int number) {
  std::string digits = std::to_string(number);
  return std::string(8 - digits.size(), '0') + digits + "-1111-4222-8333-444444444444";
}

/// An agent with nvmf_tcp devices on a target in memory. Its record survives Crash and Open.
class AgentFixture : public testing::Test {
 protected:
  void SetUp() override {
    options_.volumes.local_wait = std::chrono::milliseconds(1);
    options_.incomplete_hold = std::chrono::nanoseconds(0);
    options_.late_action_time = std::chrono::nanoseconds(0);
    options_.drift_period = std::chrono::nanoseconds(0);
    options_.watch_period = std::chrono::nanoseconds(0);
    options_.health_period = std::chrono::nanoseconds(0);
    options_.max_start_wait = std::chrono::seconds(20);
    Open();
  }
  void TearDown() override { Crash(); }

  /// Registers the bdevs of volumes 1 to 4.
  void AddBdevs() {
    for (int volume = 1; volume <= 4; ++volume) target_.AddBdev(VolumeUuid(volume));
  }

  void Open() {
    OpenCore();
    WaitUntilServing();
    target_.ResetCounts();
  }

  /// Like Open, but does not wait until the agent serves calls.
  void OpenCore() {
    auto core = AgentCore::Open(
        options_, target_, std::make_unique<record::MemoryStore>(disk_), MakeManagers(),
        [this](bool serving) { serving_ = serving; }, engine_ ? engine_() : nullptr,
        sealing_key_.empty() ? std::nullopt : base::Secret::Copy(sealing_key_));
    ASSERT_TRUE(core.ok()) << core.status();
    core_ = *std::move(core);
    target_.SetOnConnect([this](uint64_t generation) {
      core_->OnDisconnect(generation - 1, absl::UnavailableError("lost"));
      core_->OnConnect(generation);
    });
    core_->Start();
  }

  virtual std::vector<std::unique_ptr<DeviceManager>> MakeManagers() {
    std::vector<std::unique_ptr<DeviceManager>> managers;
    managers.push_back(std::make_unique<nvmf_tcp::NvmfTcpManager>(target_));
    return managers;
  }

  void Crash() {
    if (core_) core_->Stop();  // ends the calls of the background threads
    target_.SetOnConnect(nullptr);
    core_.reset();
    serving_ = false;
  }

  void WaitUntilServing() {
    WaitFor([this] { return serving_.load(); });
  }
  template <typename Condition>
  void WaitFor(Condition condition) {
    auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!condition()) {
      ASSERT_LT(std::chrono::steady_clock::now(), end) << "waited too long";
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }

  static std::string Nqn(int number) {
    return "nqn.2016-06.io.spdk:cnode" + std::to_string(number);
  }
  static std::string Handle(int number) { return "nvmf-tcp:" + Nqn(number); }

  static CreateDeviceRequest CreateRequest(int number, int volume = 0) {
    CreateDeviceRequest request;
    nvmf_tcp::DeviceParameters& params = *request.mutable_nvmf_tcp();
    params.set_subnqn(Nqn(number));
    params.set_adrfam("ipv4");
    params.set_traddr("127.0.0.1");
    params.set_trsvcid("4420");
    params.add_hosts("nqn.2016-06.io.spdk:host0");
    if (volume != 0) request.mutable_volume()->set_volume_id(Id(volume));
    return request;
  }
  static std::string Id(int volume) { return base::Uuid::Parse(VolumeUuid(volume))->ToBytes(); }

  /// Limits a volume of device 0.
  absl::Status Limit(int volume) {
    SetQosRequest request;
    request.set_device_handle(Handle(0));
    request.set_volume_id(Id(volume));
    request.mutable_maximum()->set_rw_iops(5);
    return core_->agent().SetQos(context_, request).status();
  }

  absl::Status Create(const CreateDeviceRequest& request) {
    auto response = core_->agent().CreateDevice(context_, request);
    if (response.ok()) {
      EXPECT_EQ(response->handle(), "nvmf-tcp:" + request.nvmf_tcp().subnqn());
    }
    return response.status();
  }
  absl::Status Create(int number, int volume = 0) { return Create(CreateRequest(number, volume)); }
  absl::Status Delete(const std::string& handle) {
    DeleteDeviceRequest request;
    request.set_handle(handle);
    return core_->agent().DeleteDevice(context_, request).status();
  }
  absl::Status Attach(const std::string& handle, int volume) {
    AttachVolumeRequest request;
    request.set_device_handle(handle);
    request.mutable_volume()->set_volume_id(Id(volume));
    return core_->agent().AttachVolume(context_, request).status();
  }
  absl::Status Detach(const std::string& handle, int volume) {
    DetachVolumeRequest request;
    request.set_device_handle(handle);
    request.set_volume_id(Id(volume));
    return core_->agent().DetachVolume(context_, request).status();
  }
  void Operator(const char* method, jsonrpc::Json params) {
    auto answer = target_.Operator(method, std::move(params));
    ASSERT_TRUE(answer.ok()) << method << answer.status();
  }
  /// Returns the subsystem of a device, or null.
  jsonrpc::Json Subsystem(int number) {
    auto found = target_.Operator("nvmf_get_subsystems", {{"nqn", Nqn(number)}});
    return found.ok() ? (*found)[0] : jsonrpc::Json();
  }
  /// Returns the UUIDs of the namespaces of a device.
  std::vector<std::string> Namespaces(int number) {
    std::vector<std::string> uuids;
    const jsonrpc::Json subsystem = Subsystem(number);
    if (subsystem.is_null()) return uuids;
    for (const auto& ns : subsystem["namespaces"]) uuids.push_back(ns["uuid"]);
    return uuids;
  }

  Options options_;
  base::Context context_ = base::Context::Background();
  spdk::FakeTarget target_;
  std::function<std::unique_ptr<CryptoEngine>()> engine_;  // unset: no encryption
  std::string sealing_key_;                                // empty: none
  std::shared_ptr<record::MemoryDisk> disk_ = std::make_shared<record::MemoryDisk>();
  std::atomic<bool> serving_ = false;
  std::unique_ptr<AgentCore> core_;
};

}  // namespace sma::core
