#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "agent/core/agent_core.h"
#include "agent/qmp/fake_qemu.h"
#include "agent/record/memory_store.h"
#include "worlds/sim_target.h"

namespace sma::worlds {

/// The agent under test in this process: the one place in the worlds that knows how an agent is put
/// together. What is on its disk survives Crash and Open.
class AgentHost {
 public:
  /// All outlive the host. `machine` may be null: then there are devices of type nvmf_tcp only.
  /// `folder` is for the sockets of devices of virtual machines.
  AgentHost(SimTarget& target, std::shared_ptr<record::MemoryDisk> disk, qmp::FakeQemu* machine,
            std::string folder);
  ~AgentHost() { Crash(); }

  void Open();
  /// Ends the agent where it stands. No call may be in progress.
  void Crash();
  bool is_serving() const { return serving_; }

  service::Agent& agent() { return core_->agent(); }
  service::Admin& admin() { return core_->admin(); }
  /// Has it compare its record with the target, as it does every drift period.
  void Compare();

  /// Rows of limits in the record of volumes that it does not have.
  std::vector<std::string> LimitsWithoutVolume() const;

  core::Options options;

 private:
  std::vector<std::unique_ptr<DeviceManager>> MakeManagers();

  SimTarget& target_;
  const std::shared_ptr<record::MemoryDisk> disk_;
  qmp::FakeQemu* const machine_;
  const std::string folder_;
  std::atomic<bool> serving_ = false;
  std::unique_ptr<core::AgentCore> core_;
};

}  // namespace sma::worlds
