#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/record/rows.h"
#include "agent/spdk/bdev_nvme.h"
#include "agent/volume/shared_connections.h"
#include "base/context.h"
#include "base/mutex.h"
#include "jsonrpc/caller.h"

namespace sma::volume {

/// The discovery services that volumes are found through. A target follows one service at an
/// address, whatever its name and host NQN, and takes the services that this one refers to for the
/// same: so volumes share them. A service that the agent did not start is used and never stopped.
/// Its host NQN is that of the first volume that used it, for as long as any does, also when the
/// service is started again: what the others were found through stays the same.
/// Thread-safe; a caller that waits for one service delays nobody who wants another.
class DiscoveryServices {
 public:
  /// `target` and `connections` outlive this.
  DiscoveryServices(jsonrpc::Caller& target, SharedConnections& connections)
      : target_(target), connections_(connections) {}

  /// The name of the service for `address` that `volume` would use or start.
  std::string PlanName(const spdk::TransportAddress& address, const base::Uuid& volume) const;

  /// Adds what the record says, oldest volume first. Call it before other threads use this.
  /// `hostnqn`: the host NQN of the volume that uses the service `name`.
  void AddHost(const std::string& name, const std::string& hostnqn) { KeepHost(name, hostnqn); }

  struct Joined {
    std::string name;         // of the service; empty: one that the agent did not start
    bool is_started = false;  // by this call
  };
  /// Has the target follow the service at `address` for `volume`, under `name` if it follows none
  /// there. After an error, SharedConnections::Leave(name).
  absl::StatusOr<Joined> Join(const base::Context& context, const base::Uuid& volume,
                              const std::string& name, const spdk::TransportAddress& address,
                              const std::string& hostnqn);

  /// As Join, for a volume that is known to use the services `used`: no remote call where, as far
  /// as is known since SharedConnections::LookAtServices, one of these or another's is at
  /// `address`.
  absl::StatusOr<Joined> JoinAgain(const base::Context& context, const base::Uuid& volume,
                                   const std::string& name, const spdk::TransportAddress& address,
                                   const std::string& hostnqn,
                                   const std::vector<std::string>& used);

  /// The service that serves `address`, itself or by a referral, as far as is known.
  std::optional<std::string> FindServing(const spdk::TransportAddress& address) const;

  /// Whether the service `name` serves `address`, itself or by a referral, as far as is known.
  bool IsServing(const std::string& name, const spdk::TransportAddress& address) const;

  /// Stops and starts a service that lists the volume but attaches nothing, which the target does
  /// when another service, now stopped, had attached it before. No volume may hang on the service.
  /// At most once in a while for each service; one that has attached controllers, whose bdevs the
  /// target left out because it had them of the other service, only once for each volume that is
  /// missing, until NoteThere.
  absl::Status Kick(const base::Context& context, const base::Uuid& volume,
                    const std::string& name);
  /// The bdev of the volume is on the target.
  void NoteThere(const base::Uuid& volume);

  /// As which host a service asks what there is; nullopt: unknown. Empty: the target's own.
  std::optional<std::string> HostOf(const std::string& name) const;
  /// Forgets what is kept of services that nobody uses any more.
  void ForgetUnused(const std::string& name);

 private:
  enum class Started { kYes, kWasRunning, kRefused };
  absl::StatusOr<Started> Start(const base::Context& context, const base::Uuid& volume,
                                const std::string& name, const spdk::TransportAddress& address,
                                const std::string& hostnqn);
  absl::StatusOr<std::optional<std::string>> JoinServing(const base::Context& context,
                                                         const base::Uuid& volume,
                                                         const spdk::TransportAddress& address);
  std::string KeepHost(const std::string& name, const std::string& hostnqn);

  jsonrpc::Caller& target_;
  SharedConnections& connections_;
  mutable base::Mutex mutex_;
  std::map<std::string, std::string> hosts_ SMA_GUARDED_BY(mutex_);  // by the service's name
  std::map<std::string, base::TimePoint> kicked_ SMA_GUARDED_BY(mutex_);
  std::map<std::string, base::TimePoint> started_ SMA_GUARDED_BY(mutex_);
  std::set<std::pair<base::Uuid, std::string>> kicked_for_ SMA_GUARDED_BY(mutex_);
};

}  // namespace sma::volume
