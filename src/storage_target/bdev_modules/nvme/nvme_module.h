// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/errno_or.h"
#include "storage_target/bdev/registry.h"
#include "storage_target/bdev/value.h"
#include "storage_target/bdev_modules/nvme/discovery_service.h"
#include "storage_target/bdev_modules/nvme/remote_subsystem.h"

namespace sma::storage_target::bdev_nvme {

/// The parameters of bdev_nvme_attach_controller.
struct AttachOptions {
  std::string name;
  std::optional<initiator::Address> address;  // always set
  std::optional<initiator::Address> source;
  std::string subnqn;
  std::string hostnqn;  // empty: this host's default
  bool header_digest = false;
  bool data_digest = false;
  Multipath multipath = Multipath::kMultipath;
  std::optional<MultipathPolicy> policy;
  std::optional<ReconnectOptions> reconnect;  // nullopt: the module's
  std::optional<uint16_t> io_queue_count;
  std::optional<uint64_t> connect_timeout_us;
};

/// The reason for refusing an attach immediately.
enum class AttachRefusal : uint8_t {
  kNone,
  kSamePath,           // EALREADY
  kMultipathDisabled,  // EALREADY
  kOtherSubnqn,        // EINVAL
  kOtherHostnqn,       // EINVAL
  kReconnectOptions,   // EINVAL: inconsistent
  kDetaching,          // EBUSY: the subsystem with this name is being detached
};

/// The remote subsystems and discovery services of the target. Used only on the control reactor.
/// Destroyed after Stop has finished, before the registry and the reactors.
class NvmeModule {
 public:
  /// `reactors` are the reactors in which bdev channels may be opened, including the control
  /// reactor.
  NvmeModule(bdev::Registry& registry, std::vector<Reactor*> reactors);
  ~NvmeModule();
  NvmeModule(const NvmeModule&) = delete;
  NvmeModule& operator=(const NvmeModule&) = delete;

  const ModuleOptions& options() const { return environment_.options; }
  /// Sets the options for later attaches. Errors: EINVAL if the reconnect options are inconsistent;
  /// EPERM, as in SPDK, if something is already attached.
  int SetOptions(const ModuleOptions& options);

  /// Receives the names of the subsystem's bdevs, or an error: EIO if the connection fails; EINVAL
  /// if the address leads to a different subsystem than the one with this name.
  using AttachDone = RemoteSubsystem::AttachDone;
  /// Attaches a controller. If the result is kNone, the attach has started and `done` is called
  /// later.
  AttachRefusal Attach(const AttachOptions& options, AttachDone done);

  /// The addresses of a subsystem to detach; all if none is set.
  struct DetachFilter {
    std::optional<initiator::Address> address = {};
    std::optional<std::string> subnqn = {};
  };
  /// Detaches addresses of a subsystem. Returns ENODEV without calling `done` if there is no
  /// subsystem with this name or it has no such address.
  int Detach(const std::string& name, const DetachFilter& filter, std::function<void()> done);

  /// Returns nullptr if there is no subsystem with this name.
  RemoteSubsystem* Find(const std::string& name) const;
  /// Returns the subsystems in the order of their names.
  std::vector<RemoteSubsystem*> List() const;
  /// Returns true if a path to the subsystem at this address already exists under any name.
  bool HasPath(const std::string& subnqn, const std::string& hostnqn,
               const initiator::Address& address) const;

  /// Starts a discovery service. Errors: EEXIST if the name is already used or a service for that
  /// address exists; EINVAL if the reconnect options are inconsistent. Otherwise `done` is called
  /// with 0 or ETIMEDOUT: immediately without `wait_for_attach`, otherwise when everything in the
  /// log has been attached.
  int StartDiscovery(const DiscoveryService::Options& options, std::function<void(int error)> done);
  /// Stops a discovery service. Returns ENOENT if there is no service with this name; otherwise
  /// `done` is called when everything that the service attached has been removed.
  int StopDiscovery(const std::string& name, std::function<void()> done);
  std::vector<DiscoveryService*> discovery_services() const;

  /// Appends the calls that recreate this state. Controllers that discovery services have attached
  /// are covered by the calls for the services.
  void SaveConfig(std::vector<bdev::ConfigCall>& calls) const;

  /// Stops all services and removes all subsystems; then calls `done`.
  void Stop(std::function<void()> done);

  /// Returns the default host NQN, which does not change when the target restarts.
  const std::string& default_hostnqn() const { return default_hostnqn_; }
  Reactor& control() const { return environment_.registry.control(); }
  initiator::Controller::Options MakeControllerOptions(const AttachOptions& options) const;

 private:
  AttachRefusal CheckAttach(const AttachOptions& options) const;
  void OnPathGone(const RemoteSubsystem& subsystem, bool whole);
  void Forget(const RemoteSubsystem& subsystem);
  void TellServices(const std::string& subnqn, bool by_request);
  bool IsDiscovered(const std::string& subsystem) const;

  Environment environment_;
  const std::string default_hostnqn_;
  uint64_t last_path_id_ = 0;
  std::map<std::string, std::shared_ptr<RemoteSubsystem>> subsystems_;
  std::map<std::string, std::unique_ptr<DiscoveryService>> services_;
};

}  // namespace sma::storage_target::bdev_nvme
