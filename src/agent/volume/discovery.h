// SPDX-License-Identifier: Apache-2.0

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

/// The discovery services through which volumes are found. A target follows only one service for
/// each address, whatever its name and host NQN, and treats the services to which it refers as the
/// same service. Volumes therefore share services. A service that the agent did not start is used,
/// but never stopped. A service keeps the host NQN of the first volume that used it until its last
/// user leaves, even if it is restarted, so that it lists the same subsystems for the other
/// volumes. Thread-safe; a caller that waits for one service does not delay callers for others.
class DiscoveryServices {
 public:
  /// `target` and `connections` must outlive this object.
  DiscoveryServices(jsonrpc::Caller& target, SharedConnections& connections)
      : target_(target), connections_(connections) {}

  /// Returns the name of the service for `address` that `volume` would use or start.
  std::string PlanName(const spdk::TransportAddress& address, const base::Uuid& volume) const;

  /// Adds a volume of the record that uses the service `name`, with the volume's host NQN. The
  /// oldest volume must be added first. Call this before other threads use this object.
  void AddHost(const std::string& name, const std::string& hostnqn) { KeepHost(name, hostnqn); }

  struct Joined {
    std::string name;         // the service; empty: the agent did not start it
    bool is_started = false;  // by this call
  };
  /// Makes the target follow the discovery service at `address` on behalf of `volume`, under `name`
  /// if it does not follow it yet. After an error call SharedConnections::Leave(name).
  absl::StatusOr<Joined> Join(const base::Context& context, const base::Uuid& volume,
                              const std::string& name, const spdk::TransportAddress& address,
                              const std::string& hostnqn);

  /// Like Join, for a volume that already uses the services `used`. Makes no remote call if, as of
  /// the last SharedConnections::RefreshServices, one of them or a service that the agent did not
  /// start serves `address`.
  absl::StatusOr<Joined> Rejoin(const base::Context& context, const base::Uuid& volume,
                                const std::string& name, const spdk::TransportAddress& address,
                                const std::string& hostnqn, const std::vector<std::string>& used);

  /// Returns the service that is known to serve `address`, itself or through a referral.
  std::optional<std::string> FindServing(const spdk::TransportAddress& address) const;

  /// Returns true if the service `name` is known to serve `address`, itself or through a referral.
  bool IsServing(const std::string& name, const spdk::TransportAddress& address) const;

  /// Restarts a service that lists the volume but has not attached it: the target skips a subsystem
  /// that another service had attached, even if that one has been stopped since. Does nothing if a
  /// volume depends on the service. Limits how often a service is restarted. A service that has
  /// attached other controllers is restarted only once for each missing volume until NoteBdevExists
  /// is called.
  absl::Status Restart(const base::Context& context, const base::Uuid& volume,
                       const std::string& name);
  /// To be called when the bdev of the volume exists.
  void NoteBdevExists(const base::Uuid& volume);

  /// Returns true if the service was started so recently that another call may have started, at the
  /// same time, a service that refers to it.
  bool IsRecentlyStarted(const std::string& name) const;

  /// Returns the host NQN with which a service connects; empty for the target's own, nullopt if
  /// unknown.
  std::optional<std::string> HostOf(const std::string& name) const;
  /// Forgets the service `name` if it has no user left.
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
  std::map<std::string, std::string> hosts_ SMA_GUARDED_BY(mutex_);  // NQNs by service
  std::map<std::string, base::TimePoint> restarted_ SMA_GUARDED_BY(mutex_);
  std::map<std::string, base::TimePoint> started_ SMA_GUARDED_BY(mutex_);
  std::set<std::pair<base::Uuid, std::string>> restarted_for_ SMA_GUARDED_BY(mutex_);
};

}  // namespace sma::volume
