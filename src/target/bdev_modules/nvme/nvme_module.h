#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/errno_or.h"
#include "target/bdev/registry.h"
#include "target/bdev/value.h"
#include "target/bdev_modules/nvme/discovery_service.h"
#include "target/bdev_modules/nvme/remote_subsystem.h"

namespace sma::target::bdev_nvme {

/// What bdev_nvme_attach_controller asks for.
struct AttachOptions {
  std::string name;
  std::optional<initiator::Address> address;  // always given
  std::optional<initiator::Address> source;
  std::string subnqn;
  std::string hostnqn;  // empty: this machine's
  bool header_digest = false;
  bool data_digest = false;
  Multipath multipath = Multipath::kMultipath;
  std::optional<MultipathPolicy> policy;
  std::optional<ReconnectOptions> reconnect;  // else the module's
  std::optional<uint16_t> io_queue_count;
  std::optional<uint64_t> connect_timeout_us;
};

/// Why an attach was refused at once.
enum class AttachRefusal : uint8_t {
  kNone,
  kSamePath,           // EALREADY
  kMultipathDisabled,  // EALREADY
  kOtherSubnqn,        // EINVAL
  kOtherHostnqn,       // EINVAL
  kReconnectOptions,   // EINVAL: they do not agree with each other
  kGoing,              // EBUSY: what has this name is being detached
};

/// The remote subsystems and discovery services of the target. In the control reactor. Destroyed
/// when nothing is left of them (see Stop), before the registry and the reactors.
class NvmeModule {
 public:
  /// `reactors`: those in which bdevs' channels may be opened, the control reactor among them.
  NvmeModule(bdev::Registry& registry, std::vector<Reactor*> reactors);
  ~NvmeModule();
  NvmeModule(const NvmeModule&) = delete;
  NvmeModule& operator=(const NvmeModule&) = delete;

  const ModuleOptions& options() const { return environment_.options; }
  /// For what is attached from now on. EINVAL when the reconnect options do not agree with each
  /// other; EPERM, as SPDK answers, when something is attached already.
  int SetOptions(const ModuleOptions& options);

  /// The names of the subsystem's bdevs; EIO when it cannot be connected, EINVAL when the address
  /// leads to another subsystem than the name stands for.
  using AttachDone = RemoteSubsystem::AttachDone;
  /// kNone: it has begun, and `done` is called later.
  AttachRefusal Attach(const AttachOptions& options, AttachDone done);

  /// Which of a subsystem's addresses to let go; all when none is given.
  struct DetachFilter {
    std::optional<initiator::Address> address = {};
    std::optional<std::string> subnqn = {};
  };
  /// ENODEV: no such name, or it has no such address; `done` is not called then.
  int Detach(const std::string& name, const DetachFilter& filter, std::function<void()> done);

  /// nullptr when there is none of that name.
  RemoteSubsystem* Find(const std::string& name) const;
  /// By name.
  std::vector<RemoteSubsystem*> List() const;
  /// Whether a path to the subsystem at this address is there already, whatever it is called.
  bool HasPath(const std::string& subnqn, const std::string& hostnqn,
               const initiator::Address& address) const;

  /// EEXIST: the name is taken, or a service for that address is there. EINVAL: reconnect options
  /// that do not agree with each other. Else `done` is called with 0 or ETIMEDOUT: at once without
  /// `wait_for_attach`, else when everything in the log is attached.
  int StartDiscovery(const DiscoveryService::Options& options, std::function<void(int error)> done);
  /// ENOENT when there is none of that name; else `done` when everything that it attached is gone.
  int StopDiscovery(const std::string& name, std::function<void()> done);
  std::vector<DiscoveryService*> discovery_services() const;

  /// The calls that make all of this again; what discovery services have attached is theirs.
  void SaveConfig(std::vector<bdev::ConfigCall>& calls) const;

  /// Ends everything; then `done`.
  void Stop(std::function<void()> done);

  /// This machine's NQN as a host, the same after a restart.
  const std::string& default_hostnqn() const { return default_hostnqn_; }
  Reactor& control() const { return environment_.registry.control(); }
  initiator::Controller::Options MakeControllerOptions(const AttachOptions& options) const;

 private:
  AttachRefusal CheckAttach(const AttachOptions& options) const;
  void OnPathGone(const RemoteSubsystem& subsystem, bool whole);
  void Forget(const RemoteSubsystem& subsystem);
  void TellServices(bool by_request);
  bool IsDiscovered(const std::string& subsystem) const;

  Environment environment_;
  const std::string default_hostnqn_;
  uint64_t last_path_id_ = 0;
  std::map<std::string, std::shared_ptr<RemoteSubsystem>> subsystems_;
  std::map<std::string, std::unique_ptr<DiscoveryService>> services_;
};

}  // namespace sma::target::bdev_nvme
