// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "agent/core/testing/agent_fixture.h"

namespace sma::core {

inline constexpr char kRemoteNqn[] = "nqn.2016-06.io.spdk:remote0";

/// An agent with devices 0 and 1 and a storage node, for tests with remote volumes.
class RemoteFixture : public AgentFixture {
 protected:
  void SetUp() override {
    options_.volumes.discovery_timeout = std::chrono::milliseconds(200);
    AgentFixture::SetUp();
    target_.SetRemote("a", RemoteA());
    ASSERT_TRUE(Create(0).ok());
    ASSERT_TRUE(Create(1).ok());
    empty_ = target_.Dump();
  }

  // Returns a node with volumes 1 to 4 in one subsystem, a discovery service and two ports for I/O.
  static spdk::FakeRemote RemoteA() {
    return {
        .ports = {"8009", "4430", "4431"},
        .subsystems = {{kRemoteNqn, {VolumeUuid(1), VolumeUuid(2), VolumeUuid(3), VolumeUuid(4)}}}};
  }

  static AttachVolumeRequest Request(int device, int volume) {
    AttachVolumeRequest request;
    request.set_device_handle(Handle(device));
    request.mutable_volume()->set_volume_id(Id(volume));
    return request;
  }
  static nvmf::Address Address(const std::string& port, const std::string& host = "127.0.0.1") {
    nvmf::Address address;
    address.set_trtype("TCP");
    address.set_traddr(host);
    address.set_trsvcid(port);
    return address;
  }
  static AttachVolumeRequest Discovered(int volume, const std::vector<std::string>& ports,
                                        int device = 0) {
    AttachVolumeRequest request = Request(device, volume);
    auto& discovery = *request.mutable_volume()->mutable_nvmf()->mutable_discovery();
    for (const std::string& port : ports) *discovery.add_discovery_endpoints() = Address(port);
    request.mutable_volume()->mutable_nvmf()->set_hostnqn("nqn.2014-08.org.nvmexpress:host" +
                                                          std::to_string(volume));
    return request;
  }
  static AttachVolumeRequest Direct(int volume, const std::vector<std::string>& ports) {
    AttachVolumeRequest request = Request(0, volume);
    request.mutable_volume()->mutable_nvmf()->set_subnqn(kRemoteNqn);
    auto& direct = *request.mutable_volume()->mutable_nvmf()->mutable_direct();
    for (const std::string& port : ports) *direct.add_addresses() = Address(port);
    return request;
  }
  absl::Status Send(const AttachVolumeRequest& request) {
    return core_->agent().AttachVolume(context_, request).status();
  }
  jsonrpc::Json Services() { return *target_.Operator("bdev_nvme_get_discovery_info"); }
  jsonrpc::Json Controllers() { return *target_.Operator("bdev_nvme_get_controllers"); }
  int CountCalls(const std::string& method) {
    const std::vector<std::string> methods = target_.methods();
    return static_cast<int>(std::count(methods.begin(), methods.end(), method));
  }

  std::string empty_;
};

}  // namespace sma::core
