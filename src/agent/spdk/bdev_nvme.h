// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/spdk/nvmf.h"
#include "jsonrpc/caller.h"

namespace sma::spdk {

/// A discovery service that the target has started: it attaches the controllers of the discovery
/// log.
struct DiscoveryService {
  std::string name;
  TransportAddress address;
  std::vector<TransportAddress> referrals;  // other discovery services in this one's log
};

/// A path to a remote subsystem.
struct ControllerPath {
  TransportAddress address;
  std::string subnqn;
  std::string state{};  // of the path in SPDK: "enabled", "reconnect_is_delayed", ...

  bool is_up() const { return state == "enabled"; }
};

/// A bdev_nvme controller: a remote subsystem to which the target is connected.
struct Controller {
  std::string name;
  std::vector<ControllerPath> paths;
};

// Requests for the target's NVMe-oF host. The connections that they create, and I/O on these, wait
// indefinitely for an unreachable remote: `ctrlr_loss_timeout_sec` is -1.

/// Starts a discovery service. The target answers immediately, and tries to connect until the
/// service is stopped. If `hostnqn` is empty, the target's own is used.
jsonrpc::Request StartDiscovery(std::string_view name, const TransportAddress& address,
                                std::string_view hostnqn);
jsonrpc::Request StopDiscovery(std::string_view name);
jsonrpc::Request GetDiscoveryInfo();

/// Attaches a controller, or adds `address` as a path if a controller with this name exists. The
/// target answers when the path is connected or the connection has failed.
jsonrpc::Request AttachController(std::string_view name, const TransportAddress& address,
                                  std::string_view subnqn, std::string_view hostnqn);
jsonrpc::Request DetachController(std::string_view name);
/// Removes one path of a controller; the last one removes the controller.
jsonrpc::Request DetachPath(std::string_view name, const TransportAddress& address,
                            std::string_view subnqn);
jsonrpc::Request GetControllers();

/// Parses the answer of bdev_nvme_get_discovery_info. Returns INTERNAL if it is malformed.
absl::StatusOr<std::vector<DiscoveryService>> ParseDiscoveryInfo(const jsonrpc::Json& answer);

/// Queries only the controller `name`.
jsonrpc::Request GetController(std::string_view name);

/// Parses the answer of bdev_nvme_get_controllers. Returns INTERNAL if it is malformed.
absl::StatusOr<std::vector<Controller>> ParseControllers(const jsonrpc::Json& answer);

/// Returns true if the target refused to start a discovery service because a service with this name
/// or address is already running.
bool IsKnownDiscovery(const absl::Status& status);

/// Returns true if the target refused to attach a controller because the path already exists, in
/// the controller with this name or, for IsPathOfAnother, in another controller.
bool IsKnownPath(const absl::Status& status);
bool IsPathOfAnother(const absl::Status& status);

/// Returns true if the target has no service or controller with this name.
bool IsUnknownName(const absl::Status& status);

}  // namespace sma::spdk
