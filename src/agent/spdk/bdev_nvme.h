#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/spdk/nvmf.h"
#include "jsonrpc/caller.h"

namespace sma::spdk {

/// A discovery service that the target follows: it attaches the controllers that the service lists.
struct DiscoveryService {
  std::string name;
  TransportAddress address;
  std::vector<TransportAddress> referrals;  // other discovery services that this one lists
};

/// One of the paths to a remote subsystem.
struct ControllerPath {
  TransportAddress address;
  std::string subnqn;
  std::string state{};  // of the target's association: "enabled", "reconnect_is_delayed", ...

  bool is_up() const { return state == "enabled"; }
};

/// A remote subsystem that the target is connected to.
struct Controller {
  std::string name;
  std::vector<ControllerPath> paths;
};

// Requests of the target's NVMe-oF host. Connections that they make wait for a remote that is gone
// and never give it up, and so does I/O: `ctrlr_loss_timeout_sec` is -1.

/// Answered at once; the target goes on trying until the service is stopped. `hostnqn` empty: the
/// target's own.
jsonrpc::Request StartDiscovery(std::string_view name, const TransportAddress& address,
                                std::string_view hostnqn);
jsonrpc::Request StopDiscovery(std::string_view name);
jsonrpc::Request GetDiscoveryInfo();

/// Where there is a controller of this name, `address` becomes another path to it. Answered when it
/// is connected or has failed.
jsonrpc::Request AttachController(std::string_view name, const TransportAddress& address,
                                  std::string_view subnqn, std::string_view hostnqn);
jsonrpc::Request DetachController(std::string_view name);
jsonrpc::Request GetControllers();

/// What bdev_nvme_get_discovery_info answered. INTERNAL when it is malformed.
absl::StatusOr<std::vector<DiscoveryService>> ParseDiscoveryInfo(const jsonrpc::Json& answer);

/// Of the controller `name` alone.
jsonrpc::Request GetController(std::string_view name);

/// What bdev_nvme_get_controllers answered. INTERNAL when it is malformed.
absl::StatusOr<std::vector<Controller>> ParseControllers(const jsonrpc::Json& answer);

/// Whether the target refused to start a service because it follows one of this name or at this
/// address.
bool IsKnownDiscovery(const absl::Status& status);

/// Whether the target refused to attach a controller because it has the path: the controller of
/// this name does, or another one does.
bool IsKnownPath(const absl::Status& status);
bool IsPathOfAnother(const absl::Status& status);

/// Whether the target said that there is no service or controller of this name.
bool IsUnknownName(const absl::Status& status);

}  // namespace sma::spdk
