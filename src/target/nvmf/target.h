#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "target/nvmf/control_plane.h"
#include "target/nvmf/subsystem.h"
#include "target/nvmf/transport.h"

namespace sma::target::nvmf {

/// The NVMe-oF side of the program: transports, subsystems, referrals, and the reactors that queue
/// pairs are given to. The control reactor only, unless said otherwise. Errors are positive errno
/// values.
class Target final : public ControlPlane {
 public:
  using PollGroup = nvmf::PollGroup;

  /// Has the discovery subsystem from the start. `io_reactors` and `registry` outlive it.
  Target(Reactor& control, std::vector<Reactor*> io_reactors, bdev::Registry& registry);
  /// Only after Shutdown.
  ~Target() override;

  // From any thread.
  Reactor& control() const override { return control_; }
  bdev::Registry& registry() const { return registry_; }

  /// EEXIST: there is one of this type.
  int AddTransport(std::unique_ptr<Transport> transport);
  /// By type, in either case; nullptr: there is none.
  Transport* FindTransport(std::string_view type) const;
  const std::vector<std::unique_ptr<Transport>>& transports() const { return transports_; }

  /// How many subsystems may be made.
  void set_max_subsystems(uint32_t count) { max_subsystems_ = count; }
  uint32_t max_subsystems() const { return max_subsystems_; }
  /// EINVAL: an option is bad; EEXIST: the NQN is taken; ENOSPC: there are too many.
  base::ErrnoOr<Subsystem*> CreateSubsystem(SubsystemOptions options);
  /// Not found any more from now on; `done` runs when its hosts are disconnected and its bdevs
  /// closed.
  void DeleteSubsystem(Subsystem& subsystem, std::function<void()> done);
  Subsystem* FindSubsystem(std::string_view nqn) const;
  /// By NQN.
  const std::map<std::string, std::unique_ptr<Subsystem>, std::less<>>& subsystems() const {
    return subsystems_;
  }

  /// EEXIST, ENOENT.
  int AddReferral(const Referral& referral);
  int RemoveReferral(const Referral& referral);
  const std::vector<Referral>& referrals() const { return referrals_; }

  /// Leaves out of the discovery log what a host reaches in another way than it reaches the
  /// discovery service.
  struct DiscoveryFilter {
    bool same_transport = false;
    bool same_address = false;
    bool same_service_id = false;
  };
  void set_discovery_filter(const DiscoveryFilter& filter) { discovery_filter_ = filter; }
  const DiscoveryFilter& discovery_filter() const { return discovery_filter_; }

  /// One for each I/O reactor, in their order. From any thread; see there for what is in them.
  const std::vector<std::unique_ptr<PollGroup>>& poll_groups() const { return poll_groups_; }

  /// The reactor that the next connection belongs to.
  Reactor& NextReactor();

  // ControlPlane
  PollGroup& PollGroupOf(const Reactor& reactor) const override;
  void Connect(QueuePair& queue_pair, const ConnectRequest& request, ConnectDone done) override;
  void NoteClosed(QueuePair& queue_pair, const Controller& controller) override;
  void ForgetQueuePair(QueuePair& queue_pair,
                       const std::shared_ptr<Controller>& controller) override;
  void AbortCommand(const Controller& controller, uint16_t queue_id, uint16_t cid,
                    std::function<void(bool)> done) override;
  Health HealthOf(const Controller& controller) const override;
  std::shared_ptr<const DiscoveryLog> MakeDiscoveryLog(
      const QueuePair& queue_pair,
      const std::shared_ptr<const DiscoveryLog>& present) const override;
  void DisconnectIoQueues(std::shared_ptr<Controller> controller, Reactor& reactor,
                          std::function<void()> done) override;

  /// Ends everything; `done` runs when the target may be destroyed. No call must follow.
  void Shutdown(std::function<void()> done);

 private:
  Subsystem* SubsystemOf(const Controller& controller) const;
  void OnDiscoveryChange();
  bool IsShown(const Subsystem::Listener& listener, const TransportAddress& asked_at) const;

  Reactor& control_;
  bdev::Registry& registry_;
  const uint64_t start_ns_;
  uint32_t max_subsystems_ = 65536;
  std::vector<std::unique_ptr<Transport>> transports_;
  std::map<std::string, std::unique_ptr<Subsystem>, std::less<>> subsystems_;
  // All, those that are being deleted too, by what their controllers know of them.
  std::unordered_map<const SubsystemOptions*, Subsystem*> by_options_;
  std::vector<Referral> referrals_;
  DiscoveryFilter discovery_filter_;
  uint64_t discovery_generation_ = 1;
  size_t next_reactor_ = 0;
  const std::vector<std::unique_ptr<PollGroup>> poll_groups_;
};

}  // namespace sma::target::nvmf
