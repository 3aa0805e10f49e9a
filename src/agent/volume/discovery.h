#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/spdk/bdev_nvme.h"
#include "agent/volume/known_objects.h"
#include "agent/volume/use_counts.h"
#include "base/context.h"
#include "base/mutex.h"
#include "jsonrpc/caller.h"

namespace sma::volume {

/// The discovery services that volumes are found through. A target follows one service at an
/// address, whatever its name and host NQN, and takes the services that this one refers to for the
/// same: so volumes share them. One that the agent did not start is used and never stopped.
/// Its host NQN is that of the first volume that used it, for as long as any does, also when the
/// service is started anew: what the others were found through stays the same.
/// Thread-safe; who waits for one service holds up nobody who wants another.
class DiscoveryServices {
 public:
  /// `target` outlives this.
  explicit DiscoveryServices(jsonrpc::Caller& target) : target_(target) {}

  /// The name that the agent gives to the service at `address`.
  static std::string NameOf(const spdk::TransportAddress& address);

  /// Before other threads use this: what the record says, the volume that was first to use a
  /// service before others. `hostnqn`: its own.
  void AddUser(const std::string& name, const base::Uuid& volume, const std::string& hostnqn);

  /// Has the target follow the service at `address` for `volume`. The name of the service that
  /// serves it, to be given to Leave; empty: one that the agent did not start. After an error,
  /// Leave(NameOf(address)).
  absl::StatusOr<std::string> Join(const base::Context& context, const base::Uuid& volume,
                                   const spdk::TransportAddress& address,
                                   const std::string& hostnqn);

  /// As Join, for a volume that is known to use the services `used`: no remote call where, as far
  /// as is known since Look, one of these or another's is at `address`.
  absl::StatusOr<std::string> JoinAgain(const base::Context& context, const base::Uuid& volume,
                                        const spdk::TransportAddress& address,
                                        const std::string& hostnqn,
                                        const std::vector<std::string>& used);

  /// Stops the service if `volume` was the last to use it. OK when it is stopped already.
  absl::Status Leave(const base::Context& context, const base::Uuid& volume,
                     const std::string& name);

  /// Asks the target which services it follows.
  absl::Status Look(const base::Context& context);

  /// As which host a service asks what there is; nullopt: nobody uses it. Empty: the target's own.
  std::optional<std::string> HostOf(const std::string& name) const;

 private:
  /// False: refused, since the address is served.
  absl::StatusOr<bool> Start(const base::Context& context, const base::Uuid& volume,
                             const spdk::TransportAddress& address, const std::string& hostnqn);
  /// Uses the service that serves `address`; nullopt: there is none at the moment.
  absl::StatusOr<std::optional<std::string>> JoinServing(const base::Context& context,
                                                         const base::Uuid& volume,
                                                         const spdk::TransportAddress& address);
  std::optional<std::string> FindServing(const spdk::TransportAddress& address) const;
  /// The host of a service that is to be started for a volume of `hostnqn`.
  std::string KeepHost(const std::string& name, const std::string& hostnqn);
  void ForgetHost(const std::string& name);

  jsonrpc::Caller& target_;
  UseCounts counts_;
  KnownObjects<spdk::DiscoveryService> running_;
  mutable base::Mutex mutex_;
  std::map<std::string, std::string> hosts_ SMA_GUARDED_BY(mutex_);  // by the service's name
};

}  // namespace sma::volume
