// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "agent/spdk/testing/fake_target.h"
#include "devices/nvmf_tcp/nvmf_tcp_manager.h"

namespace sma::nvmf_tcp {

using base::Context;
using jsonrpc::Json;

inline constexpr char kNqn[] = "nqn.2016-06.io.spdk:cnode0";
inline constexpr char kHost[] = "nqn.2016-06.io.spdk:host0";
inline constexpr char kVolume[] = "00000001-1111-4222-8333-444444444444";
inline constexpr char kOther[] = "00000002-1111-4222-8333-444444444444";

inline DeviceVolume Volume(const char* uuid, std::string attachment = "") {
  return {.id = *base::Uuid::Parse(uuid), .bdev_name = uuid, .attachment = std::move(attachment)};
}

class NvmfTcpTest : public testing::Test {
 protected:
  void SetUp() override {
    target_.AddBdev(kVolume);
    target_.AddBdev(kOther);
    ASSERT_TRUE(manager_.Prepare(context_).ok());
    ASSERT_TRUE(manager_.List(context_).ok());
    device_ = Describe();
    empty_ = target_.Dump();
    target_.ResetCounts();
  }

  DeviceSpec Describe(const std::string& port = "4420", bool allow_any_host = false) {
    CreateDeviceRequest request;
    DeviceParameters& params = *request.mutable_nvmf_tcp();
    params.set_subnqn(kNqn);
    params.set_adrfam("ipv4");
    params.set_traddr("127.0.0.1");
    params.set_trsvcid(port);
    params.set_allow_any_host(allow_any_host);
    params.add_hosts(kHost);
    auto device = manager_.Describe(request);
    EXPECT_TRUE(device.ok()) << device.status();
    return *device;
  }

  /// Returns the attachment of a volume whose bdev was created by FakeTarget::AddBdev.
  static std::string At(uint32_t nsid, const std::string& uuid) {
    return fmt::format("{} null-{}", nsid, uuid);
  }

  // Returns the subsystem with the device's NQN on the target; null if there is none.
  Json Subsystem() {
    auto found = target_.Operator("nvmf_get_subsystems", {{"nqn", kNqn}});
    return found.ok() ? (*found)[0] : Json();
  }

  // Creates, as an operator, the objects that CreateDevice would create.
  void CreateAsOperator() {
    Operator("nvmf_create_subsystem", {{"nqn", kNqn}, {"allow_any_host", false}});
    Operator("nvmf_subsystem_add_host", {{"nqn", kNqn}, {"host", kHost}});
    Operator("nvmf_subsystem_add_listener", {{"nqn", kNqn}, {"listen_address", Address("4420")}});
  }
  void AddNamespaceAsOperator(const char* uuid) {
    Operator("nvmf_subsystem_add_ns", {{"nqn", kNqn}, {"namespace", {{"bdev_name", uuid}}}});
  }
  static Json Address(const char* port) {
    return {{"trtype", "tcp"}, {"adrfam", "ipv4"}, {"traddr", "127.0.0.1"}, {"trsvcid", port}};
  }
  void Operator(const char* method, Json params) {
    auto answer = target_.Operator(method, std::move(params));
    ASSERT_TRUE(answer.ok()) << method << answer.status();
  }

  Context context_ = Context::Background();
  spdk::FakeTarget target_;
  NvmfTcpManager manager_{target_};
  DeviceSpec device_;
  std::string empty_;
};

}  // namespace sma::nvmf_tcp
