#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/context.h"
#include "jsonrpc/caller.h"

namespace sma::spdk {

/// A vhost controller with a virtio-blk device.
struct VhostBlkController {
  std::string name;
  std::string bdev_name;     // the bdev's own, no alias; empty: it is gone
  size_t session_count = 0;  // front ends that are connected
};

/// `bdev_name` may be an alias.
jsonrpc::Request CreateVhostBlkController(std::string_view name, std::string_view bdev_name,
                                          bool packed_ring);
jsonrpc::Request GetVhostControllers();
jsonrpc::Request GetVhostController(std::string_view name);
jsonrpc::Request DeleteVhostController(std::string_view name);

/// What vhost_get_controllers answered, without controllers of other kinds. INTERNAL when it is
/// malformed.
absl::StatusOr<std::vector<VhostBlkController>> ParseVhostControllers(const jsonrpc::Json& answer);

/// What vhost_get_controllers answered for one name: nullopt when there is no such controller.
/// ALREADY_EXISTS: it is of another kind.
absl::StatusOr<std::optional<VhostBlkController>> ParseVhostController(
    const absl::StatusOr<jsonrpc::Json>& answer);

/// Why vhost_create_blk_controller or vhost_delete_controller was refused.
bool IsNoSuchVhostDevice(const absl::Status& status);  // no such controller, or no such bdev
bool IsVhostControllerThere(const absl::Status& status);
bool IsVhostControllerBusy(const absl::Status& status);

}  // namespace sma::spdk
