// SPDX-License-Identifier: Apache-2.0

#include "worlds/agent_host.h"

#include <gtest/gtest.h>

#include "agent/crypto/bdev_crypto_engine.h"
#include "devices/nvmf_tcp/nvmf_tcp_manager.h"
#include "devices/vfiouser/vfiouser_manager.h"
#include "devices/vhost_blk/vhost_blk_manager.h"

namespace sma::worlds {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

AgentHost::AgentHost(SimTarget& target, std::shared_ptr<record::MemoryDisk> disk,
                     qmp::FakeQemu* machine, std::string folder)
    : target_(target), disk_(std::move(disk)), machine_(machine), folder_(std::move(folder)) {
  options.volumes.local_wait = milliseconds(1);
  options.volumes.discovery_timeout = milliseconds(500);
  options.incomplete_hold = nanoseconds(0);
  options.late_action_time = nanoseconds(0);
  options.drift_period = nanoseconds(0);
  options.watch_period = nanoseconds(0);
  options.health_period = nanoseconds(0);
  options.min_retry_pause = milliseconds(1);
  options.removal_time = milliseconds(1500);
}

std::vector<std::unique_ptr<DeviceManager>> AgentHost::MakeManagers() {
  std::vector<std::unique_ptr<DeviceManager>> managers;
  managers.push_back(std::make_unique<nvmf_tcp::NvmfTcpManager>(target_));
  if (machine_ == nullptr) return managers;
  auto client = std::make_shared<qmp::Client>(qmp::ClientOptions{.address = machine_->address(),
                                                                 .connect_wait = milliseconds(500),
                                                                 .retry_pause = milliseconds(1)});
  const qmp::Buses buses({{.name = "bus0", .vm = client}}, true);
  vhost_blk::Options vhost{.buses = buses, .socket_folder = folder_};
  vhost.unplug_wait = milliseconds(20);
  managers.push_back(std::make_unique<vhost_blk::VhostBlkManager>(target_, vhost));
  vfiouser::Options vfiouser{.buses = buses, .socket_folder = folder_};
  vfiouser.unplug_wait = milliseconds(20);
  managers.push_back(std::make_unique<vfiouser::VfioUserManager>(target_, vfiouser));
  return managers;
}

void AgentHost::Open() {
  auto core = core::AgentCore::Open(
      options, target_, std::make_unique<record::MemoryStore>(disk_), MakeManagers(),
      [this](bool serving) { serving_ = serving; },
      std::make_unique<crypto::BdevCryptoEngine>(target_, ""),
      base::Secret::Copy("0123456789abcdef0123456789ABCDEF"));
  ASSERT_TRUE(core.ok()) << core.status();
  core_ = *std::move(core);
  target_.SetOnConnect([this](uint64_t generation) {
    core_->OnDisconnect(generation - 1, absl::UnavailableError("lost"));
    core_->OnConnect(generation);
  });
  core_->Start();
}

void AgentHost::Crash() {
  if (core_) core_->Stop();
  target_.SetOnConnect(nullptr);
  core_.reset();
  serving_ = false;
}

std::vector<std::string> AgentHost::LimitsWithoutVolume() const {
  std::vector<std::string> found;
  for (const auto& [id, limits] : disk_->limits) {
    if (!disk_->volumes.contains(id)) found.push_back(id.ToString());
  }
  return found;
}

void AgentHost::Compare() { core_->OnConnect(target_.generation()); }

}  // namespace sma::worlds
