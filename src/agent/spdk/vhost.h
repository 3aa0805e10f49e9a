// SPDX-License-Identifier: Apache-2.0

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

/// A vhost-user controller of a virtio-blk device.
struct VhostController {
  std::string name;
  std::string bdev_name;     // the name, not an alias; empty: the bdev no longer exists
  size_t session_count = 0;  // connected front ends
};

/// Creates a vhost-blk controller. `bdev_name` may be an alias.
jsonrpc::Request CreateVhostBlkController(std::string_view name, std::string_view bdev_name,
                                          bool packed_ring);
jsonrpc::Request GetVhostControllers();
jsonrpc::Request GetVhostController(std::string_view name);
jsonrpc::Request DeleteVhostController(std::string_view name);

/// Parses the answer of vhost_get_controllers, omitting controllers of other types. Returns
/// INTERNAL if it is malformed.
absl::StatusOr<std::vector<VhostController>> ParseVhostControllers(const jsonrpc::Json& answer);

/// Parses the answer of vhost_get_controllers for one name. Returns nullopt if there is no such
/// controller, ALREADY_EXISTS if it is of another type.
absl::StatusOr<std::optional<VhostController>> ParseVhostController(
    const absl::StatusOr<jsonrpc::Json>& answer);

/// Classify the error of vhost_create_blk_controller or vhost_delete_controller.
bool IsNoSuchVhostDevice(const absl::Status& status);  // no such controller, or no such bdev
bool IsVhostControllerExisting(const absl::Status& status);
bool IsVhostControllerBusy(const absl::Status& status);

}  // namespace sma::spdk
