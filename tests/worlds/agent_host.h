// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "agent/core/agent_core.h"
#include "agent/qmp/testing/fake_qemu.h"
#include "agent/record/testing/memory_store.h"
#include "worlds/sim_target.h"

namespace sma::worlds {

/// Runs the agent under test in this process. This is the only part of the worlds that depends on
/// how an agent is constructed. Its disk survives Crash and Open.
class AgentHost {
 public:
  /// All arguments must outlive the host. `machine` may be null, in which case there are only
  /// devices of type nvmf_tcp. `folder` is the folder for the sockets of VM devices.
  AgentHost(SimTarget& target, std::shared_ptr<record::MemoryDisk> disk, qmp::FakeQemu* machine,
            std::string folder);
  ~AgentHost() { Crash(); }

  void Open();
  /// Stops the agent without a shutdown. No call may be in progress.
  void Crash();
  bool is_serving() const { return serving_; }

  api::Agent& agent() { return core_->agent(); }
  api::Admin& admin() { return core_->admin(); }
  /// Makes the agent compare its record with the target, as it does in every drift period.
  void Compare();

  /// Returns the record's rows of limits that refer to volumes without a row.
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
