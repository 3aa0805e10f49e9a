// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "storage_target/nvmf/control_plane.h"
#include "storage_target/nvmf/subsystem.h"
#include "storage_target/nvmf/transport.h"

namespace sma::storage_target::nvmf {

/// The NVMe-oF part of the program: transports, subsystems, referrals, and the reactors among which
/// queue pairs are distributed. Used only on the control reactor unless noted otherwise. Errors are
/// positive errno values.
class Target final : public ControlPlane {
 public:
  using PollGroup = nvmf::PollGroup;

  /// Creates the discovery subsystem. `io_reactors` and `registry` must outlive the target.
  Target(Reactor& control, std::vector<Reactor*> io_reactors, bdev::Registry& registry);
  /// May be called only after Shutdown.
  ~Target() override;

  // May be called from any thread.
  Reactor& control() const override { return control_; }
  bdev::Registry& registry() const { return registry_; }

  /// Adds a transport. Returns EEXIST if there is already a transport of this type.
  int AddTransport(std::unique_ptr<Transport> transport);
  /// Finds a transport by type, case-insensitively; returns nullptr if there is none.
  Transport* FindTransport(std::string_view type) const;
  const std::vector<std::unique_ptr<Transport>>& transports() const { return transports_; }

  /// Sets the maximum number of subsystems.
  void set_max_subsystems(uint32_t count) { max_subsystems_ = count; }
  uint32_t max_subsystems() const { return max_subsystems_; }
  /// Creates a subsystem. Errors: EINVAL for an invalid option; EEXIST if the NQN is in use; ENOSPC
  /// if there are too many subsystems.
  base::ErrnoOr<Subsystem*> CreateSubsystem(SubsystemOptions options);
  /// Deletes a subsystem, which can no longer be found. Calls `done` when its hosts are
  /// disconnected and its bdevs are closed.
  void DeleteSubsystem(Subsystem& subsystem, std::function<void()> done);
  Subsystem* FindSubsystem(std::string_view nqn) const;
  /// Returns all subsystems by NQN.
  const std::map<std::string, std::unique_ptr<Subsystem>, std::less<>>& subsystems() const {
    return subsystems_;
  }

  /// Add or remove a referral. Errors: EEXIST, ENOENT.
  int AddReferral(const Referral& referral);
  int RemoveReferral(const Referral& referral);
  const std::vector<Referral>& referrals() const { return referrals_; }

  /// Omits from the discovery log page the listeners that differ from the one at which the host
  /// reached the discovery service.
  struct DiscoveryFilter {
    bool same_transport = false;
    bool same_address = false;
    bool same_service_id = false;
  };
  void set_discovery_filter(const DiscoveryFilter& filter) { discovery_filter_ = filter; }
  const DiscoveryFilter& discovery_filter() const { return discovery_filter_; }

  /// Returns one group for each I/O reactor, in the same order. May be called from any thread; see
  /// PollGroup for access to its members.
  const std::vector<std::unique_ptr<PollGroup>>& poll_groups() const { return poll_groups_; }

  /// Returns the reactor for the next connection.
  Reactor& NextReactor();

  // Implementation of ControlPlane.
  PollGroup& PollGroupOf(const Reactor& reactor) const override;
  void Connect(QueuePair& queue_pair, const ConnectRequest& request, ConnectDone done) override;
  void AwaitLateIo(QueuePair& queue_pair, const std::shared_ptr<Controller>& controller,
                   uint16_t queue_id, std::chrono::milliseconds timeout) override;
  void NoteClosed(QueuePair& queue_pair, const Controller& controller) override;
  void RemoveQueuePair(QueuePair& queue_pair,
                       const std::shared_ptr<Controller>& controller) override;
  void AbortCommand(const Controller& controller, uint16_t queue_id, uint16_t cid,
                    std::function<void(bool)> done) override;
  Health HealthOf(const Controller& controller) const override;
  std::shared_ptr<const DiscoveryLog> MakeDiscoveryLog(
      const QueuePair& queue_pair,
      const std::shared_ptr<const DiscoveryLog>& present) const override;
  void DisconnectIoQueues(std::shared_ptr<Controller> controller, Reactor& reactor,
                          std::function<void()> done) override;

  /// Shuts everything down; calls `done` when the target may be destroyed. No other function may be
  /// called afterwards.
  void Shutdown(std::function<void()> done);

 private:
  Subsystem* SubsystemOf(const Controller& controller) const;
  void OnDiscoveryChange();
  bool IsListed(const Subsystem::Listener& listener, const TransportAddress& asked_at) const;
  std::shared_ptr<const DiscoveryLog> Share(DiscoveryLog made) const;

  Reactor& control_;
  bdev::Registry& registry_;
  const uint64_t start_ns_;
  uint32_t max_subsystems_ = 65536;
  std::vector<std::unique_ptr<Transport>> transports_;
  std::map<std::string, std::unique_ptr<Subsystem>, std::less<>> subsystems_;
  // All subsystems, including those being deleted, keyed by the options object to which their
  // controllers refer.
  std::unordered_map<const SubsystemOptions*, Subsystem*> by_options_;
  std::vector<Referral> referrals_;
  DiscoveryFilter discovery_filter_;
  uint64_t discovery_generation_ = 1;
  mutable std::vector<std::weak_ptr<const DiscoveryLog>> discovery_logs_;  // kept by controllers
  size_t next_reactor_ = 0;
  const std::vector<std::unique_ptr<PollGroup>> poll_groups_;
};

}  // namespace sma::storage_target::nvmf
